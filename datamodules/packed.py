"""Many small feature files as one memory-mapped array and an index: opening a file per video dominates loading.

    clip_features.packed.npy     all rows, one after another, (rows, width) float32 or float16
    clip_features.packed.json    {"format": 1, "shape": [rows, width], "dtype": "float32",
                                  "ids": {name: [first row, rows]}}

    pack(items, Path("clip_features.packed.npy"), np.dtype("float32"))    # items: (name, (n, width) array) pairs
    PackedFeatures(Path("clip_features.packed.npy")).read("a_0.0_150.0", limit=75)

`name` is the feature file's name without its ending. Both files are written under another name and renamed when they
are complete, the index last, so that no incomplete stream is ever read.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DataError, near
from datamodules.finite import check_numbers
from datamodules.formats.guard import reading
from datamodules.formats.json_text import read_json
from datamodules.formats.numpy_files import map_npy

FORMAT = 1
ENDING = ".packed.npy"


def packed_path(folder: Path) -> Path:
    """Where the packed file of a folder lies: beside it."""
    return folder.with_name(folder.name + ENDING)


def index_path(path: Path) -> Path:
    return path.with_suffix(".json")


def packed_beside(path: Path) -> Path | None:
    """The packed file that `path` names, or that lies beside the folder `path`; None if there is none."""
    if path.suffix == ".npy":
        return path
    beside = packed_path(path)
    return beside if beside.is_file() and index_path(beside).is_file() else None


class PackedFeatures:
    """Reads a packed file, which each process maps when it first reads it. It pickles without the map."""

    def __init__(self, path: Path):
        """DataError: a file that is missing, damaged, or does not fit its index."""
        self.path = path
        for file in (path, index_path(path)):
            if not file.is_file():
                raise DataError(
                    f"{file}: missing. A packed stream is two files, *{ENDING} and *.packed.json; "
                    "scripts/pack_features.py writes both."
                )
        index = read_json(index_path(path), f"{index_path(path)}: not the index of a packed stream")
        if isinstance(index, dict) and index.get("format", FORMAT) != FORMAT:
            raise DataError(
                f"{index_path(path)}: format {index['format']}, this version reads {FORMAT}. Pack it again."
            )
        self.shape, self.dtype, self.ids = checked_index(index, index_path(path))
        self._array: np.ndarray | None = None
        _ = self.array
        each_row_once(self.ids, self.shape[0], index_path(path))

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_array": None}

    def __contains__(self, name: str) -> bool:
        return name in self.ids

    @property
    def array(self) -> np.ndarray:
        """All rows, (rows, width), mapped."""
        if self._array is None:
            array = map_npy(self.path, f"{self.path}: cannot be read, probably truncated; pack it again")
            if array.shape != self.shape or array.dtype != self.dtype:
                raise DataError(
                    f"{self.path}: {array.shape} {array.dtype}, but its index {index_path(self.path).name} says "
                    f"{self.shape} {self.dtype}. "
                    "The two files do not belong together; pack the stream again."
                )
            self._array = array
        return self._array

    def place(self, name: str) -> list[int]:
        """First row and number of rows. DataError: a name that is not there."""
        if name not in self.ids:
            raise DataError(f"{index_path(self.path)}: no '{name}'.{near(name, self.ids)}")
        return self.ids[name]

    def rows(self, name: str) -> int:
        return self.place(name)[1]

    def read(self, name: str, limit: int | None = None) -> np.ndarray:
        """The first `limit` rows of `name` (None: all), a copy, in the file's type."""
        first, count = self.place(name)
        return np.array(self.array[first : first + (count if limit is None else min(limit, count))])


def checked_index(index: Any, path: Path) -> tuple[tuple[int, int], np.dtype, dict[str, list[int]]]:
    """Shape, type and ids of an index. DataError: another form."""
    problem = f"{path}: not the index of a packed stream"
    if not isinstance(index, dict) or not {"format", "shape", "dtype", "ids"} <= index.keys():
        raise DataError(f"{problem} (no object with the keys format, shape, dtype and ids).")
    shape, ids = index["shape"], index["ids"]
    if not isinstance(index["dtype"], str) or not _counts(shape):
        raise DataError(f"{problem} (shape {shape!r} and dtype {index['dtype']!r}).")
    with reading(problem):
        dtype = np.dtype(index["dtype"])
    if not isinstance(ids, dict):
        raise DataError(f"{problem} (its ids are not an object).")
    if wrong := [name for name, place in ids.items() if not _counts(place) or not place[1]]:
        raise DataError(f"{problem} ('{wrong[0]}' has {ids[wrong[0]]!r}, expected [first row, rows]).")
    return (shape[0], shape[1]), dtype, ids


def each_row_once(ids: Mapping[str, list[int]], rows: int, path: Path) -> None:
    """DataError unless the ids share all rows of the packed file, as they were packed one after another."""
    problem, at = f"{path}: not the index of a packed stream", 0
    for name, (first, count) in sorted(ids.items(), key=lambda item: item[1][0]):
        if first != at:
            raise DataError(
                f"{problem} ('{name}' begins at row {first}, expected {at}: every row belongs to exactly one id)."
            )
        at += count
    if at != rows:
        raise DataError(f"{problem} (its ids have {at} rows together, and its shape says {rows}).")


def _counts(value: Any) -> bool:
    """Whether a value is a list of two whole numbers, 0 or more."""
    return isinstance(value, list) and len(value) == 2 and all(type(one) is int and one >= 0 for one in value)


def pack(
    items: Iterable[tuple[str, np.ndarray]], rows: int, width: int, path: Path, dtype: np.dtype, *, verify: bool = False
) -> None:
    """Writes `items`, which have `rows` rows of `width` features in all, to `path` and its index.

    verify: goes through `items` a second time and compares them with what was written, before the files are renamed.

    Raises DataError: a name twice, an array of another width, other than `rows` rows in all, a number that is not
    finite (or not in `dtype`), a file that holds something else than was written.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.partial")
    ids: dict[str, list[int]] = {}
    try:
        with draft.open("wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
            np.lib.format.write_array_header_1_0(file, {**header, "shape": (rows, width)})
            filled = 0
            for name, values in items:
                if name in ids:
                    raise DataError(f"{path}: '{name}' would be packed twice.")
                if values.ndim != 2 or values.shape[1] != width or filled + len(values) > rows:
                    raise DataError(
                        f"{path}: '{name}' has shape {values.shape}; {rows} rows of {width} were announced."
                    )
                file.write(as_stored(name, values, dtype).tobytes())
                ids[name] = [filled, len(values)]
                filled += len(values)
            if filled != rows:
                raise DataError(f"{path}: {filled} rows came, {rows} were announced.")
        if verify:
            _compare(items, np.load(draft, mmap_mode="r", allow_pickle=False), ids, path)
        index_path(path).unlink(missing_ok=True)  # from here to the last rename there is no packed stream
        draft.replace(path)
        index = {"format": FORMAT, "shape": [rows, width], "dtype": str(np.dtype(dtype)), "ids": ids}
        draft.write_text(json.dumps(index) + "\n", encoding="utf-8")
        draft.replace(index_path(path))
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def as_stored(name: str, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`values` in the file's type. DataError: a value that is not finite in it."""
    with np.errstate(over="ignore"):
        stored = values.astype(dtype)
    check_numbers(values, f"'{name}'")
    if not np.isfinite(stored).all():
        row = np.flatnonzero(~np.isfinite(stored).all(1))[0]
        raise DataError(f"'{name}', row {row}: too large for {np.dtype(dtype)}.")
    return stored


def _compare(items: Iterable[tuple[str, np.ndarray]], array: np.ndarray, ids: dict[str, list[int]], path: Path) -> None:
    seen = 0
    for name, values in items:
        first, count = ids[name]
        seen += 1
        if not np.array_equal(array[first : first + count], as_stored(name, values, array.dtype)):
            raise DataError(f"{path}: '{name}' was read back differently than it was written.")
    if seen != len(ids):
        raise DataError(f"{path}: {seen} arrays came the second time, {len(ids)} the first.")
