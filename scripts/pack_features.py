"""Packs folders of feature files, each into one memory-mapped file beside it, and compares it with its sources.

    python -m scripts.pack_features data/qvhighlights/slowfast_features data/qvhighlights/clip_features
    python -m scripts.pack_features data/qvhighlights/clip_text_features --key last_hidden_state
    python -m scripts.pack_features data/tacos/clip_features --annotations data/tacos/train.jsonl --clip-length 2

Writes FOLDER.packed.npy and FOLDER.packed.json (datamodules/packed.py), which the data module reads instead of the
folder. Numbers are packed as they are, bit for bit, unless --dtype float16 halves the size and rounds. A file gets its
name when it is complete and was read back: an interrupted packing leaves no packed file and starts anew. A packed
file that is there is left alone; --force packs again, after feature files were added or changed.

Folders that are packed together must have rows of one clip length: files of one name may not differ by a factor of 1.3
or more in their rows (--unrelated: they have nothing to do with each other). With --annotations the rows are compared
with the durations of their videos as well. Training compares both again.
"""

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.errors import DataError, some
from datamodules.formats.numpy_files import MissingArrayError
from datamodules.moment_retrieval.annotations import read_videos
from datamodules.moment_retrieval.rates import Video, apart, check_videos
from datamodules.packed import index_path, pack, packed_path
from datamodules.streams import ENDINGS, read_array, shape_of, stem
from scripts.arguments import parser_for

TYPES = ("same", "float32", "float16")


@dataclass
class Folder:
    """The arrays of a folder by name; iterating reads each file and advances the progress bar."""

    path: Path
    files: list[Path]
    key: str
    bar: Progress
    about: str

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        for path in self.bar.track(self.files, description=self.about):
            yield name_of(path, self.path), read_array(path, self.key, str(path))


def name_of(path: Path, folder: Path) -> str:
    """A feature file's name in the packed index: its place in the folder, without its ending."""
    return stem(path.relative_to(folder).as_posix())


def files_of(folder: Path) -> list[Path]:
    """The feature files of a folder and of the folders in it. DataError: no folder, or none in it."""
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder; give folders of {' or '.join(ENDINGS[:2])} files.")
    files = sorted(file for file in folder.rglob("*") if file.suffix in ENDINGS and file.is_file())
    if not files:
        raise DataError(f"{folder}: no {' or '.join(ENDINGS[:2])} files in it.")
    return files


def header(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array in a feature file, from its header. DataError: unreadable, no such array."""
    try:
        return shape_of(path, key, str(path))
    except MissingArrayError as error:
        raise DataError(f"{error} Name another with --key.") from error


def check_rates(chosen: argparse.Namespace) -> None:
    """Raises DataError if the rows of the folders' files do not fit each other, or the durations of their videos."""
    paired = len(chosen.folders) > 1 and not chosen.unrelated
    if not paired and not chosen.annotations:
        return
    rows: dict[str, dict[str, int]] = {}
    for folder in chosen.folders:
        for path in files_of(folder) if folder.is_dir() else ():
            shape, _ = header(path, chosen.key)
            if len(shape) == 2 and shape[0]:
                rows.setdefault(name_of(path, folder), {})[str(folder)] = shape[0]
    if paired and (differ := {name: counts for name, counts in rows.items() if apart(counts)}):
        named = (f"{name}: {some(f'{count} in {folder}' for folder, count in differ[name].items())}" for name in differ)
        raise DataError(
            f"{len(differ)} files have rows of another clip length than those of the same name: {some(named, 4)}. "
            "--unrelated packs folders that have nothing to do with each other."
        )
    check_durations(chosen.annotations, rows, chosen.clip_length)


def check_durations(files: Sequence[Path], rows: dict[str, dict[str, int]], clip_length: float) -> None:
    """Raises DataError if rows of files named like a video do not fit its duration in an annotation file."""
    every = [row for file in files for row in read_videos(file)]
    if files and not any(row["vid"] in rows for row in every):
        raise DataError(f"no feature file has the name of a video in {some(files)}.")
    videos = {
        row["vid"]: Video(
            f"vid {row['vid']}", rows[row["vid"]], row["duration"] / clip_length, f"the video has {row['duration']:g} s"
        )
        for row in every
        if row["vid"] in rows
    }
    check_videos(videos.values(), clip_length=clip_length, option="--clip-length")


def plan(files: list[Path], key: str, dtype: str) -> tuple[int, int, np.dtype]:
    """(rows in all, width, type) of the packed file. DataError: files that do not go together."""
    found = {path: header(path, key) for path in files}
    for path, (shape, kind) in found.items():
        if len(shape) != 2 or not shape[0] or not np.issubdtype(kind, np.floating):
            raise DataError(
                f"{path}: shape {shape}, {kind}; expected (rows, width) floating-point numbers, at least one row."
            )
    for what, values in (
        ("width", {path: shape[1] for path, (shape, _) in found.items()}),
        ("type", {path: str(kind) for path, (_, kind) in found.items()} if dtype == "same" else {}),
    ):
        usual = Counter(values.values()).most_common(1)
        if odd := [path for path, value in values.items() if value != usual[0][0]]:
            hint = " Choose one with --dtype." if what == "type" else ""
            raise DataError(
                f"{odd[0].parent}: {len(odd)} files have another {what} than the others ({usual[0][0]}): "
                f"{some(f'{path.name} ({values[path]})' for path in odd)}.{hint}"
            )
    (_, width), kind = found[files[0]]
    return sum(shape[0] for shape, _ in found.values()), width, kind if dtype == "same" else np.dtype(dtype)


def pack_folder(folder: Path, key: str, dtype: str, *, force: bool, console: Console) -> None:
    """Packs one folder. DataError: nothing to pack, files that do not go together, no room, a difference."""
    path = packed_path(folder)
    if path.is_file() and index_path(path).is_file() and not force:
        console.print(f"{path} is there; --force packs again", soft_wrap=True, highlight=False)
        return
    files = files_of(folder)
    rows, width, kind = plan(files, key, dtype)
    size, free = rows * width * kind.itemsize, shutil.disk_usage(folder.parent).free
    if size > free:
        raise DataError(f"{path}: needs {size / 1e9:.2f} GB, {folder.parent} has {free / 1e9:.2f} GB left.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        twice = Folder(folder, files, key, bar, folder.name)
        pack(twice, rows, width, path, kind, verify=True)
    console.print(
        f"{path}: {len(files)} files, {rows} rows of {width} {kind}, {size / 1e6:.1f} MB, read back and equal",
        soft_wrap=True, highlight=False,
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = parser_for("pack_features", __doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of .npz or .npy files, one per video or query")
    parser.add_argument("--key", default="features", help="array of the .npz files (text: last_hidden_state)")
    parser.add_argument("--dtype", choices=TYPES, default="same", help="type in the packed file; same: the sources'")
    parser.add_argument("--force", action="store_true", help="replace a packed file that is there")
    parser.add_argument(
        "--annotations", nargs="+", type=Path, default=[], help="compare rows with the durations in these jsonl files"
    )
    parser.add_argument("--clip-length", type=float, help="seconds a row stands for; needed by --annotations")
    parser.add_argument("--unrelated", action="store_true", help="do not compare the folders with each other")
    chosen = parser.parse_args(arguments)
    if bool(chosen.annotations) != (chosen.clip_length is not None):
        parser.error("--annotations and --clip-length go together")
    if chosen.clip_length is not None and not 0 < chosen.clip_length < float("inf"):
        parser.error(f"--clip-length must be seconds above 0, got {chosen.clip_length:g}")
    console = Console()
    try:
        check_rates(chosen)
    except (DataError, OSError) as error:
        sys.exit(str(error))
    for folder in chosen.folders:
        try:
            pack_folder(folder, chosen.key, chosen.dtype, force=chosen.force, console=console)
        except (DataError, OSError) as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
