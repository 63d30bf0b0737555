"""Turns a folder of movies with descriptions into the files that the audio description data module reads.

    python -m scripts.prepare_movies movies/ data/movies --descriptions described/ --subtitles subtitles/
    python train.py experiment=madv2_lcaam data=movies
    python -m scripts.describe new.mp4 --subtitles new.srt --checkpoint logs/... --clip openai/clip-vit-base-patch32

Reads every video file of a folder; a movie is called as its file without the ending. DESCRIPTIONS and SUBTITLES hold
<movie>.srt or .vtt, DESCRIPTIONS perhaps <movie>.csv with start, end and text; subtitles are optional. Writes to OUT:

    video_features/<movie>.npy   CLIP's rows (rows, 512) float32, --fps per second: the picture in a row's middle
    audio_features/<movie>.npy   log-mel rows of the sound, as many: --sound-frames sub-frames of --sound-bands bands
    descriptions.csv             movie, start, end, text
    subtitles.csv                the same of the dialogue (data.subtitles=subtitles.csv)
    split.json                   TRAIN, VAL and EVAL: which movies are for what (--val, --test; edit it as you like)

`python -m scripts.describe` makes the same rows, to the last digit, from the settings that stand beside them. A file is
complete or absent, so a command that was stopped goes on when it is started again. A movie that cannot be read, or that
nothing describes, is listed in failures.txt, and the exit status is 1; all others are written.
"""

import argparse
import csv
import io
import json
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from datamodules.audio_description.annotations import seconds
from datamodules.audio_description.cues import ENDINGS, Cue, read_cues
from datamodules.audio_description.movie_file import looked_at
from datamodules.audio_description.sound_track import SoundRows
from datamodules.audio_description.streamed import CHUNK, PictureRows
from datamodules.audio_description.tables import ANNOTATIONS, read_table
from datamodules.errors import DataError, near, some
from datamodules.formats.json_text import read_json
from datamodules.log_mel import LogMel
from scripts.arguments import parser_for
from scripts.benchmarks.common import at_least_one
from scripts.extract_moment_features import CLIP, videos_in
from scripts.extracting import finish, keep_settings, only_run, progress
from tasks.common.clip_extractor import ClipExtractor
from tasks.common.errors import CheckpointError
from tasks.common.files import write_text

VIDEO, AUDIO = "video_features", "audio_features"
DESCRIPTIONS, SUBTITLES, SPLIT = "descriptions.csv", "subtitles.csv", "split.json"
LISTS = {"train": "TRAIN", "val": "VAL", "test": "EVAL"}
SHARE = 10  # of so many movies one is for validation and one for the test, unless they are named
HEADER = 128  # bytes of an .npy header that has room for any number of rows


# -- features ---------------------------------------------------------------------------------------------------------


def write_rows(path: Path, width: int, chunks: Iterable[np.ndarray]) -> int:
    """Writes an .npy file (rows, width) float32 chunk by chunk, by one rename; the number of rows."""
    draft, count = path.with_name(f".{path.stem}.{os.getpid()}.partial"), 0
    try:
        with draft.open("wb") as file:
            file.write(bytes(HEADER))
            for rows in chunks:
                file.write(np.ascontiguousarray(rows, "<f4").tobytes())
                count += len(rows)
            about = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {width}), }}"
            text = about.ljust(HEADER - 11).encode() + b"\n"
            file.seek(0)
            file.write(np.lib.format.magic(1, 0) + struct.pack("<H", len(text)) + text)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return count


def pictures(source: PictureRows) -> Iterator[np.ndarray]:
    """All rows, chunk by chunk."""
    while (found := source.next(wanted=True))[0]:
        yield found[1]


def sounds(source: SoundRows, count: int) -> Iterator[np.ndarray]:
    """The first `count` rows, chunk by chunk."""
    for first in range(0, count, CHUNK):
        yield source.next(wanted=True)[1][: count - first]


def extract(path: Path, out: Path, clip: ClipExtractor, fps: float, front_end: LogMel | None) -> str:
    """Writes the rows of one movie; a note if its sound ends early. DataError: it cannot be read, no sound."""
    movie = looked_at(path, sound=front_end is not None)
    count = write_rows(out / VIDEO / f"{path.stem}.npy", clip.video_dim, pictures(PictureRows(path, fps, clip)))
    if front_end is None:
        return ""
    sound = SoundRows(path, front_end)
    write_rows(out / AUDIO / f"{path.stem}.npy", front_end.width, sounds(sound, count))
    if sound.end is not None and sound.end < movie.duration - 1:
        return f"{path}: its sound ends at {sound.end:.1f} s of {movie.duration:.1f} s; silence after it"
    return ""


# -- texts ------------------------------------------------------------------------------------------------------------


def texts_of(folder: Path, movie: str, endings: Sequence[str]) -> tuple[list[Cue], list[str]] | None:
    """The cues of <movie> in a folder, and notes; None if there is no such file. DataError: two, or an unusable one."""
    found = [path for ending in endings if (path := folder / f"{movie}{ending}").is_file()]
    if len(found) > 1:
        raise DataError(f"{folder}: {some(path.name for path in found)} are both of {movie}; keep one.")
    if not found:
        return None
    (path,) = found
    if path.suffix != ".csv":
        return read_cues(path)
    table = read_table(path, {name: ANNOTATIONS[name] for name in ("start", "end", "text")}, optional={})
    times = table[["start", "end"]].apply(seconds)
    if (wrong := times.isna().any(axis=1)).any():
        raise DataError(f"{path}: start or end is not a number of seconds in row {some(table['row'][wrong])}.")
    return [Cue(*row) for row in zip(times["start"], times["end"], table["text"], strict=True)], []


def as_csv(texts: dict[str, list[Cue]]) -> str:
    """The text of a table of cues by movie."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["movie", "start", "end", "text"])
    lines.writerows([movie, f"{cue.start:.3f}", f"{cue.end:.3f}", cue.text] for movie in texts for cue in texts[movie])
    return text.getvalue()


# -- splits -----------------------------------------------------------------------------------------------------------


def split(movies: Sequence[str], val: Sequence[str], test: Sequence[str]) -> dict[str, list[str]]:
    """Lists of movies by name. val, test: names, or one number of movies spread over the list; empty: a tenth.

    DataError: unknown names, a movie in both, none left for training.
    """
    left, found = list(movies), {}
    for which, wanted in (("test", test), ("val", val)):
        if len(wanted) > 1 or (wanted and not wanted[0].isdecimal()) or (wanted and wanted[0] in movies):
            if unknown := [name for name in wanted if name not in left]:
                raise DataError(f"--{which} {unknown[0]}: no such described movie left.{near(unknown[0], left)}")
            found[which] = list(wanted)
        else:
            count = int(wanted[0]) if wanted else max(1, len(movies) // SHARE)
            if count >= len(left):
                raise DataError(f"--{which} {count}: there are {len(left)} described movies left, one at least trains.")
            found[which] = [left[(2 * i + 1) * len(left) // (2 * count)] for i in range(count)]
        left = [name for name in left if name not in found[which]]
    if not left:
        raise DataError("--val and --test leave no movie to train on.")
    return {LISTS[which]: found.get(which, left) for which in LISTS}


def write_split(out: Path, movies: Sequence[str], chosen: argparse.Namespace) -> None:
    """Writes split.json; one that is there and lists these movies is kept. DataError: it lists others."""
    path = out / SPLIT
    if path.is_file() and not chosen.val and not chosen.test:
        listed = {movie for names in read_json(path).values() for movie in names}
        if listed == set(movies):
            return
        raise DataError(
            f"{path} does not list the described movies; different: {some(sorted(listed ^ set(movies)))}. Edit or "
            "remove it, or choose with --val and --test."
        )
    write_text(path, json.dumps(split(movies, chosen.val, chosen.test), indent=1) + "\n")


# -- the command line -------------------------------------------------------------------------------------------------


def run(chosen: argparse.Namespace, console: Console) -> None:
    movies = videos_in(chosen.movies)
    for folder in filter(None, (chosen.descriptions, chosen.subtitles)):
        if not folder.is_dir():
            raise DataError(f"{folder}: not a folder.")
    front_end = None
    if not chosen.no_sound:
        front_end = LogMel.of(chosen.sound_rate, chosen.fps, chosen.sound_frames, chosen.sound_bands)
    clip = ClipExtractor.load(chosen.clip, chosen.device)
    with only_run(chosen.out):
        for folder, settings in settings_of(chosen, clip, front_end).items():
            (chosen.out / folder).mkdir(exist_ok=True)
            keep_settings(chosen.out / folder, settings)
        failed: dict[str, str] = {}
        texts: dict[str, dict[str, list[Cue]]] = {DESCRIPTIONS: {}, SUBTITLES: {}}
        for name in movies:
            try:
                read_texts(name, chosen, texts, console)
            except DataError as error:
                failed[name] = str(error)
        todo = [name for name in movies if name not in failed and not there(chosen.out, name, front_end)]
        before = len(movies) - len(todo) - len(failed)
        with progress(console) as bar:
            for name in bar.track(todo, description="movies"):
                try:
                    if note := extract(movies[name], chosen.out, clip, chosen.fps, front_end):
                        console.print(note, soft_wrap=True, highlight=False)
                except DataError as error:
                    failed[name] = str(error)
        usable = {file: {name: of[name] for name in of if name not in failed} for file, of in texts.items()}
        write_tables(chosen, usable)
        done = len(movies) - before - len(failed)
        finish(chosen.out, console, done=done, there=before, failed=failed, noun="movies")


def settings_of(chosen: argparse.Namespace, clip: ClipExtractor, front_end: LogMel | None) -> dict[str, dict[str, Any]]:
    """What the rows depend on, by folder."""
    shared = {"fps": chosen.fps, "rows_at_once": CHUNK}
    found = {VIDEO: shared | {key: clip.settings[key] for key in ("weights", "pictures")}}
    if front_end is not None:
        sizes = {"rate": chosen.sound_rate, "frames": chosen.sound_frames, "bands": chosen.sound_bands}
        found[AUDIO] = shared | {"front_end": "log_mel", **sizes}
    return found


def there(out: Path, name: str, front_end: LogMel | None) -> bool:
    folders = (VIDEO,) if front_end is None else (VIDEO, AUDIO)
    return all((out / folder / f"{name}.npy").is_file() for folder in folders)


def read_texts(name: str, chosen: argparse.Namespace, texts: dict[str, dict], console: Console) -> None:
    """Adds the movie's descriptions and subtitles to `texts`. DataError: unusable, or nothing describes it."""
    for file, folder, endings in (
        (DESCRIPTIONS, chosen.descriptions, (*ENDINGS, ".csv")),
        (SUBTITLES, chosen.subtitles, ENDINGS),
    ):
        found = folder and texts_of(folder, name, endings)
        if found:
            texts[file][name], notes = found
            for note in notes:
                console.print(note, soft_wrap=True, highlight=False)
        elif folder and file == DESCRIPTIONS:
            raise DataError(f"nothing describes it: no {name}{f', {name}'.join(endings)} in {folder}")


def write_tables(chosen: argparse.Namespace, texts: dict[str, dict[str, list[Cue]]]) -> None:
    for file, folder in ((DESCRIPTIONS, chosen.descriptions), (SUBTITLES, chosen.subtitles)):
        if folder is not None:
            write_text(chosen.out / file, as_csv(texts[file]))
    if chosen.descriptions is not None and texts[DESCRIPTIONS]:
        write_split(chosen.out, list(texts[DESCRIPTIONS]), chosen)


def main(arguments: list[str] | None = None) -> None:
    parser = parser_for("prepare_movies", __doc__)
    add = parser.add_argument
    add("movies", type=Path, help="folder of video files, or one video file")
    add("out", type=Path, help="data set's folder, which is made")
    add("--descriptions", type=Path, help="folder with <movie>.srt, .vtt or .csv; without it only features are made")
    add("--subtitles", type=Path, help="folder with <movie>.srt or .vtt of the dialogue")
    add("--val", nargs="+", default=[], metavar="MOVIE", help="validation movies, or how many (a tenth)")
    add("--test", nargs="+", default=[], metavar="MOVIE", help="test movies, or how many (a tenth)")
    add("--clip", default=CLIP, metavar="FOLDER_OR_NAME", help=f"the CLIP model ({CLIP})")
    add("--fps", type=float, default=5.0, help="rows per second (5, as in MAD)")
    add("--sound-rate", type=at_least_one, default=16_000, help="samples per second (16000)")
    add("--sound-frames", type=at_least_one, default=8, help="sub-frames in a row (8)")
    add("--sound-bands", type=at_least_one, default=64, help="mel bands of a sub-frame (64)")
    add("--no-sound", action="store_true", help="pictures alone (data.audio_features=null)")
    add("--device", default="cpu", help="cpu, cuda, ... (cpu)")
    chosen = parser.parse_args(arguments)
    if not 0 < chosen.fps < float("inf"):
        parser.error(f"--fps {chosen.fps}: must be above 0")
    try:
        run(chosen, Console())
    except KeyboardInterrupt:
        sys.exit("stopped; run the same command again to go on.")
    except (DataError, CheckpointError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
