"""Feature streams: one matrix (clips or tokens, width) per video or query, in a folder of files or one packed file.

    stream = open_stream(root, "clip_features", StreamSettings(path="clip_features", dim=512))
    stream.missing(["a_0.0_150.0.npz"])                  # the names that are not there
    stream.read("a_0.0_150.0.npz", about="vid a", limit=75)   # (75, 512) float32; every defect is a DataError

A folder holds .npz (array `key`), .npy or .pt files (a tensor, or a dict with `key`), in it or in folders of its own
(file: "{vid}/{subid}.npz"). An .hdf5 file holds a dataset (or a group with a dataset `key`) per video or query. If the
stream is packed (`scripts/pack_features.py`; datamodules/packed.py), the same rows come from one memory-mapped file. A
packed file beside its folder is used instead of the folder.
"""

import dataclasses
import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np

from datamodules.errors import DataError, some
from datamodules.finite import check_numbers
from datamodules.formats.hdf5_rows import HDF5, RowsFile
from datamodules.formats.names import file_name
from datamodules.formats.numpy_files import header_of_npy, header_of_npz, read_npy, read_npz
from datamodules.formats.tensor_files import read_pt, shape_of_pt
from datamodules.packed import PackedFeatures, packed_beside

ENDINGS = (".npz", ".npy", ".pt")  # of the files of a folder
UNREADABLE = "cannot be read, probably truncated or not fully downloaded"


@dataclass(frozen=True)
class StreamSettings:
    """A stream as the configuration names it."""

    path: str  # folder, packed file (.npy) or .hdf5 file, relative to the data root
    dim: int  # features per row
    key: str | None = "features"  # array of an .npz file, of a dict in a .pt file, of a group in an .hdf5 file
    file: str = "{vid}.npz"  # name of a video's or query's file: {vid}, {qid} or another key of its annotation


def stream_settings(name: str, values: Mapping[str, Any], default: StreamSettings | None = None) -> StreamSettings:
    """Settings from configuration values; `path` may be left out and is then `name`.

    Raises DataError: unknown key (with the nearest one), missing or wrong value.
    """
    fields = {field.name: field for field in dataclasses.fields(StreamSettings)}
    given = {**(dataclasses.asdict(default) if default else {"path": name}), **values}
    for key in given:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise DataError(f"stream {name}: unknown setting '{key}'.{hint} Allowed: {', '.join(fields)}.")
    dim = given.get("dim")
    if isinstance(dim, bool) or not isinstance(dim, int) or dim < 1:
        raise DataError(f"stream {name}: dim is {dim!r}, expected the number of features per row, at least 1.")
    for key in ("path", "file", "key"):
        if not isinstance(given.get(key, ""), str) and not (key == "key" and given[key] is None):
            raise DataError(f"stream {name}: {key} is {given[key]!r}, expected a string.")
    settings = StreamSettings(**given)
    if not settings.path:
        raise DataError(f"stream {name}: path is empty, expected a folder or a packed file.")
    keys, ending = keys_of(settings.file), Path(settings.file).suffix
    one_file = Path(settings.path).suffix in HDF5  # whose datasets have no ending
    if not {"vid", "qid"} & keys or (ending not in ENDINGS and not one_file):
        raise DataError(
            f"stream {name}: file is {settings.file!r}, expected a name with {{vid}} or {{qid}} that ends in .npz, "
            ".npy or .pt (of an .hdf5 file: a name without an ending)."
        )
    if ending == ".npz" and not one_file and not settings.key:
        raise DataError(f"stream {name}: key is {settings.key!r}, expected the name of an array in the .npz files.")
    return settings


def keys_of(pattern: str) -> set[str]:
    """The keys of an annotation that name a file; empty for a pattern that cannot be filled in."""
    try:
        return {key for _, key, form, how in Formatter().parse(pattern) if key and key.isidentifier() and not how}
    except ValueError:
        return set()


def open_stream(root: str | Path, name: str, settings: StreamSettings) -> "FolderStream | PackedStream | FileStream":
    """The stream at `root / settings.path`. DataError: neither a folder, nor a packed or an .hdf5 file there."""
    path = Path(root) / settings.path
    if path.suffix in HDF5:
        return FileStream(name, settings, path)
    if packed := packed_beside(path):
        return PackedStream(name, settings, packed)
    if path.is_dir():
        return FolderStream(name, settings, path)
    raise DataError(f"stream {name}: neither a folder nor a packed file at {path.resolve()}")


def read_array(path: Path, key: str, where: str, limit: int | None = None) -> np.ndarray:
    """The first `limit` rows (None: all) of an .npy file, or of array `key` of an .npz or a .pt file.

    DataError: unreadable, or no such array.
    """
    if path.suffix == ".npy":
        return read_npy(path, f"{where}: {UNREADABLE}", limit)
    return (read_pt if path.suffix == ".pt" else read_npz)(path, key, f"{where}: {UNREADABLE}", limit)


def shape_of(path: Path, key: str, where: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of what `read_array` would read, from the header alone. DataError as there."""
    problem = f"{where}: {UNREADABLE}"
    if path.suffix == ".pt":
        return shape_of_pt(path, key, problem)
    found = header_of_npy(path, problem) if path.suffix == ".npy" else header_of_npz(path, key, problem)
    return found.shape, found.dtype


class Stream:
    """What both kinds of stream share: names, and the checks of what was read."""

    def __init__(self, name: str, settings: StreamSettings, path: Path):
        self.name, self.width, self.key, self.pattern, self.path = (
            name, settings.dim, settings.key, settings.file, path
        )  # fmt: skip
        self.keys = sorted(keys_of(settings.file))

    def file_of(self, row: Mapping[str, Any]) -> str:
        """Name of the file of an annotation row. DataError: an id that leads to another folder."""
        if lacking := [key for key in self.keys if key not in row]:
            raise DataError(
                f"stream {self.name}: its files are named {self.pattern}, but qid {row['qid']}, vid {row['vid']} has "
                f"no {some(lacking)}."
            )
        return self.pattern.format(**{key: file_name(row[key], f"stream {self.name}, {key}") for key in self.keys})

    def rows(self, file: str, *, about: str) -> int | None:
        """Rows in the whole file, from its header; None if it holds something else than a matrix (`read` says what)."""
        shape = self.shape(file, about=about)
        return shape[0] if len(shape) == 2 else None

    def checked(self, values: np.ndarray, where: str) -> np.ndarray:
        """(n, width) float32, n >= 1, finite; DataError otherwise."""
        if values.ndim != 2 or values.shape[1] != self.width:
            raise DataError(
                f"{where}: shape {values.shape}, expected (rows, {self.width}). Set the dim of stream {self.name} to "
                "the width of these features, or use the matching files."
            )
        if not len(values):
            raise DataError(f"{where}: no rows in it, the least is one.")
        if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
            raise DataError(f"{where}: values of type {values.dtype}, expected numbers.")
        values = values.astype(np.float32, copy=False)
        check_numbers(values, where)
        return values


class FolderStream(Stream):
    """One file per video or query."""

    def missing(self, files: Iterable[str]) -> list[str]:
        """The names of `files` that are not in the folder, in order, each once."""
        files = list(dict.fromkeys(files))
        there = set()
        for folder in dict.fromkeys(file.rpartition("/")[0] for file in files):  # "" for the files of the folder itself
            if (self.path / folder).is_dir():
                with os.scandir(self.path / folder) as entries:
                    there |= {f"{folder}/{entry.name}".lstrip("/") for entry in entries}
        return [file for file in files if file not in there]

    def shape(self, file: str, *, about: str) -> tuple[int, ...]:
        path = self.path / file
        return shape_of(path, self.key, f"{path} ({about})")[0]

    def size(self, files: Iterable[str]) -> int:
        """Size of these files in bytes."""
        return sum((self.path / file).stat().st_size for file in dict.fromkeys(files))

    def read(self, file: str, *, about: str, limit: int | None = None) -> np.ndarray:
        """The first `limit` rows (None: all), (n, width) float32. DataError names the file and `about`."""
        path = self.path / file
        where = f"{path} ({about})"
        return self.checked(read_array(path, self.key, where, limit), where)


class PackedStream(Stream):
    """Rows of all videos or queries in one memory-mapped file."""

    def __init__(self, name: str, settings: StreamSettings, path: Path):
        super().__init__(name, settings, path)
        self.packed = PackedFeatures(path)

    def missing(self, files: Iterable[str]) -> list[str]:
        return [file for file in dict.fromkeys(files) if stem(file) not in self.packed]

    def size(self, files: Iterable[str]) -> int:
        return sum(self.packed.rows(stem(file)) for file in dict.fromkeys(files)) * self.width * 4

    def shape(self, file: str, *, about: str) -> tuple[int, ...]:
        return (self.packed.rows(stem(file)), self.packed.shape[1])

    def read(self, file: str, *, about: str, limit: int | None = None) -> np.ndarray:
        name = stem(file)
        return self.checked(self.packed.read(name, limit), f"{self.path}, '{name}' ({about})")


class FileStream(Stream):
    """A dataset per video or query in one .hdf5 file."""

    def __init__(self, name: str, settings: StreamSettings, path: Path):
        """DataError: no such file, or none of HDF5."""
        super().__init__(name, settings, path)
        self.file = RowsFile(path, self.key)
        self.names = self.file.names()

    def missing(self, files: Iterable[str]) -> list[str]:
        return [file for file in dict.fromkeys(files) if file.split("/")[0] not in self.names]

    def size(self, files: Iterable[str]) -> int:
        return sum((self.rows(file, about=file) or 0) for file in dict.fromkeys(files)) * self.width * 4

    def shape(self, file: str, *, about: str) -> tuple[int, ...]:
        return self.file.dataset(file, about).shape

    def read(self, file: str, *, about: str, limit: int | None = None) -> np.ndarray:
        return self.checked(self.file.read(file, about, limit), f"{self.path}, '{file}' ({about})")


def usual_pattern(stream: FolderStream | PackedStream | FileStream, row: Mapping[str, Any]) -> str | None:
    """Another usual name under which a folder has the file of an annotation row; None if there is none."""
    if not isinstance(stream, FolderStream):
        return None
    names = [f"{name}{ending}" for name in ("qid{qid}", "{qid}", "{vid}") for ending in ENDINGS]
    return next((name for name in names if (stream.path / name.format(**row)).is_file()), None)


def stem(file: str) -> str:
    """The name of a file without its ending, as packed streams list it."""
    return file.removesuffix(Path(file).suffix)
