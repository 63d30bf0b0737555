"""Packs folders of feature files, each into one memory-mapped file beside it, and compares it with its sources.

    python -m scripts.pack_features data/qvhighlights/slowfast_features data/qvhighlights/clip_features
    python -m scripts.pack_features data/qvhighlights/clip_text_features --key last_hidden_state

Writes FOLDER.packed.npy and FOLDER.packed.json (datamodules/packed.py), which the data module reads instead of the
folder. Numbers are packed as they are, bit for bit, unless --dtype float16 halves the size and rounds. A file gets its
name when it is complete and was read back: an interrupted packing leaves no packed file and starts anew. A packed
file that is there is left alone; --force packs again, after feature files were added or changed.
"""

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.errors import DataError, some
from datamodules.formats.numpy_files import MissingArrayError, header_of_npy, header_of_npz
from datamodules.packed import index_path, pack, packed_path
from datamodules.streams import UNREADABLE, read_array
from scripts.arguments import parser_for

ENDINGS = (".npz", ".npy")
TYPES = ("same", "float32", "float16")


@dataclass
class Folder:
    """The arrays of a folder by name; iterating reads each file and advances the progress bar."""

    files: list[Path]
    key: str
    bar: Progress
    about: str

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        for path in self.bar.track(self.files, description=self.about):
            yield path.stem, read_array(path, self.key, str(path))


def shape_of(path: Path, key: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array in a feature file, from its header. DataError: unreadable, no such array."""
    problem = f"{path}: {UNREADABLE}"
    try:
        found = header_of_npy(path, problem) if path.suffix == ".npy" else header_of_npz(path, key, problem)
    except MissingArrayError as error:
        raise DataError(f"{error} Name another with --key.") from error
    return found.shape, found.dtype


def plan(files: list[Path], key: str, dtype: str) -> tuple[int, int, np.dtype]:
    """(rows in all, width, type) of the packed file. DataError: files that do not go together."""
    found = {path: shape_of(path, key) for path in files}
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
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder; give folders of {' or '.join(ENDINGS)} files.")
    files = sorted(file for file in folder.iterdir() if file.suffix in ENDINGS)
    if not files:
        raise DataError(f"{folder}: no {' or '.join(ENDINGS)} files in it.")
    rows, width, kind = plan(files, key, dtype)
    size, free = rows * width * kind.itemsize, shutil.disk_usage(folder.parent).free
    if size > free:
        raise DataError(f"{path}: needs {size / 1e9:.2f} GB, {folder.parent} has {free / 1e9:.2f} GB left.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        twice = Folder(files, key, bar, folder.name)
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
    chosen = parser.parse_args(arguments)
    console = Console()
    for folder in chosen.folders:
        try:
            pack_folder(folder, chosen.key, chosen.dtype, force=chosen.force, console=console)
        except (DataError, OSError) as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
