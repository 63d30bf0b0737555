"""Extracts CLIP's rows of videos and of sentences, in the files that the moment retrieval data module reads.

    python -m scripts.extract_moment_features videos/ data/clip_moments
    python -m scripts.extract_moment_features videos/ data/clip_moments --queries train.jsonl val.jsonl test.jsonl
    python -m scripts.extract_moment_features movie.mp4 data/clip_moments --clip path/to/clip --clip-length 1

Reads every video file of a folder, or one file. Writes OUT/clip_features/<video>.npz with "features" (clips, 512)
float32, one row per --clip-length seconds: the frame in the clip's middle (FFmpeg's fps=1/2 for 2 s), its central
square at 224 pixels, through CLIP's image encoder and projection, not normalised; beside it "clip_length" and
"duration", in seconds. --queries reads annotation files (one JSON object with qid and query per line) and writes
OUT/clip_text_features/qid<qid>.npz with "last_hidden_state" (tokens, 512), start and end token included.

--clip is a folder that transformers wrote, or a name on the hub. A file is complete or absent, so a command that was
stopped goes on when it is started again. A video that cannot be read is listed in failures.txt, and the exit status is
1; all others are written. SlowFast's rows are not extracted (docs/moment_retrieval.md#slowfast).
"""

import argparse
import contextlib
import os
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from datamodules.errors import DataError, some
from datamodules.formats.clip_frames import ClipFrames
from datamodules.formats.names import misnamed
from datamodules.formats.video_files import ENDINGS, is_video
from datamodules.moment_retrieval.annotations import check_asked
from scripts.arguments import parser_for
from scripts.extracting import finish, keep_settings, only_run, progress, say_others
from tasks.common.clip_extractor import ClipExtractor
from tasks.common.errors import CheckpointError
from tasks.common.files import read_jsonl

VIDEOS, QUERIES = "clip_features", "clip_text_features"
CLIP = "openai/clip-vit-base-patch32"
SLOWFAST = (
    "--slowfast: SlowFast's rows cannot be extracted here, also from given weights: no maintained library has its "
    "network. torchvision and transformers have none, and pytorchvideo had its last release, 0.1.5, in 2022. Use the "
    "extractor that the features of the training came from (docs/moment_retrieval.md#slowfast), or train on CLIP's "
    "rows alone: experiment=clip_moments_lcaam"
)


def videos_in(place: Path) -> dict[str, Path]:
    """Name -> file, of a folder's video files or of one file. DataError: none, or two of one name."""
    if place.is_file():
        return {place.stem: place}
    if not place.is_dir():
        raise DataError(f"{place}: neither a folder nor a file.")
    files = sorted(path for path in place.iterdir() if is_video(path) and path.is_file() and path.name[0] != ".")
    if not files:
        raise DataError(f"{place}: no video files ({', '.join(ENDINGS)}) in it.")
    names = [path.stem for path in files]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{place}: more than one video file is called {some(twice)}; a video needs a name of its own.")
    return dict(zip(names, files, strict=True))


def sentences_in(files: Sequence[Path]) -> dict[str, str]:
    """qid -> sentence, of annotation files. DataError: a row without them, a qid with two sentences."""
    found: dict[str, str] = {}
    for path in files:
        rows = read_jsonl(path)
        for line, row in zip(rows.lines, rows, strict=True):
            for key in ("qid", "query"):
                if key not in row:
                    raise DataError(f"{path}, line {line}: has no key {key!r}; it has {some(row) or 'none'}.")
            check_asked(row, f"{path}, line {line}")
            name = f"qid{row['qid']}"
            if found.setdefault(name, row["query"]) != row["query"]:
                raise DataError(f"{path}, line {line}: qid {row['qid']} has another sentence: {found[name]!r}.")
    if files and not found:
        raise DataError(f"{some([str(path) for path in files])}: no query in it.")
    return found


def made_of(path: Path, source: Mapping[str, object]) -> bool:
    """Whether a file is there and was made of this source; one of an earlier version does not say and is taken."""
    if not path.is_file():
        return False
    try:
        with np.load(path) as file:
            return all(key not in file or np.array_equal(file[key], value) for key, value in source.items())
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return False


def write_arrays(folder: Path, name: str, arrays: Mapping[str, object]) -> None:
    """folder/name.npz, by one rename."""
    draft = folder / f".{name}.{os.getpid()}.partial"
    try:
        with draft.open("wb") as file:
            np.savez(file, **arrays)
        draft.replace(folder / f"{name}.npz")
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def extract(
    folder: Path, named: Mapping[str, object], arrays_of, source_of, settings: dict, noun: str, console: Console
) -> None:
    """Writes a file for each of `named` that has none yet: arrays_of(value) -> arrays by name.

    source_of(value) is kept beside them, and says whether a file is of what is there now; if not, it is made anew.
    A DataError of one is listed and costs that one alone; then the command ends with status 1.
    """
    with only_run(folder):
        keep_settings(folder, settings)
        failed = {name: f"its name {what}" for name in named if (what := misnamed(name))}
        files = {name: folder / f"{name}.npz" for name in named if name not in failed}
        todo = [name for name, path in files.items() if not made_of(path, source_of(named[name]))]
        if anew := [name for name in todo if files[name].exists()]:
            console.print(
                f"{noun} that are not what they were, made anew: {some(anew)}", soft_wrap=True, highlight=False
            )
        there = len(named) - len(todo) - len(failed)
        with progress(console) as bar:
            for name in bar.track(todo, description=noun):
                try:
                    write_arrays(folder, name, {**arrays_of(named[name]), **source_of(named[name])})
                except DataError as error:
                    failed[name] = str(error)
        done = len(named) - there - len(failed)
        finish(folder, console, done=done, there=there, failed=failed, noun=noun)


def run(chosen: argparse.Namespace, console: Console) -> None:
    videos, sentences = videos_in(chosen.videos), sentences_in(chosen.queries)
    if chosen.videos.is_dir():
        say_others(chosen.videos, console)
    clip = ClipExtractor.load(chosen.clip, chosen.device)

    def of_video(path: Path) -> dict[str, object]:
        frames = ClipFrames(path, chosen.clip_length)
        rows = clip.rows(frames, chosen.batch_size)
        return {
            "features": rows,
            "clip_length": np.float64(chosen.clip_length),
            "duration": np.float64(frames.duration),
        }

    def of_sentence(text: str) -> dict[str, object]:
        return {"last_hidden_state": clip.words(text)}

    seen = {"clip_length": chosen.clip_length, **{key: clip.settings[key] for key in ("weights", "pictures")}}
    said = {key: clip.settings[key] for key in ("weights", "vocabulary")}
    parts = [
        (VIDEOS, videos, of_video, lambda path: {"file_bytes": np.int64(path.stat().st_size)}, seen, "videos"),
        (QUERIES, sentences, of_sentence, lambda text: {"query": np.array(text)}, said, "queries"),
    ]
    stops = []
    for folder, *part in parts if sentences else parts[:1]:
        try:
            extract(chosen.out / folder, *part, console)
        except SystemExit as stop:  # some of them failed; the other part is still done
            stops.append(str(stop.code))
    if stops:
        sys.exit("\n".join(stops))


def main(arguments: list[str] | None = None) -> None:
    parser = parser_for("extract_moment_features", __doc__)
    parser.add_argument("videos", type=Path, help="folder of video files, or one video file")
    parser.add_argument("out", type=Path, help=f"data set's folder; {VIDEOS} and {QUERIES} are made in it")
    parser.add_argument("--queries", type=Path, nargs="+", default=[], help="annotation files (jsonl: qid, query)")
    parser.add_argument("--clip", default=CLIP, metavar="FOLDER_OR_NAME", help=f"the CLIP model ({CLIP})")
    parser.add_argument("--clip-length", type=float, default=2.0, help="seconds per row (2)")
    parser.add_argument("--batch-size", type=int, default=32, help="pictures at a time (32)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (cpu)")
    parser.add_argument("--slowfast", metavar="WEIGHTS", help="refused: see docs/moment_retrieval.md#slowfast")
    chosen = parser.parse_args(arguments)
    if chosen.slowfast is not None:
        sys.exit(SLOWFAST)
    if chosen.batch_size < 1:
        parser.error(f"--batch-size {chosen.batch_size}: the least is 1")
    if not 0 < chosen.clip_length < float("inf"):
        parser.error(f"--clip-length {chosen.clip_length}: a clip lasts more than 0 s")
    try:
        run(chosen, Console())
    except KeyboardInterrupt:
        sys.exit("stopped; run the same command again to go on.")
    except (DataError, CheckpointError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
