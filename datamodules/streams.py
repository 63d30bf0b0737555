"""Feature streams: one matrix (clips or tokens, width) per video or query, in a folder of files or one packed file.

    stream = open_stream(root, "clip_features", StreamSettings(path="clip_features", dim=512))
    stream.missing(["a_0.0_150.0.npz"])                  # the names that are not there
    stream.read("a_0.0_150.0.npz", about="vid a", limit=75)   # (75, 512) float32; every defect is a DataError

A folder holds .npz (array `key`) or .npy files. If the stream is packed (`scripts/pack_features.py`;
datamodules/packed.py), the same rows come from one memory-mapped file. A packed file beside its folder is used instead
of the folder.
"""

import dataclasses
import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DataError
from datamodules.formats.names import file_name
from datamodules.formats.numpy_files import read_npy, read_npz
from datamodules.packed import PackedFeatures, packed_beside

UNREADABLE = "cannot be read, probably truncated or not fully downloaded"


@dataclass(frozen=True)
class StreamSettings:
    """A stream as the configuration names it."""

    path: str  # folder or packed file (.npy), relative to the data root
    dim: int  # features per row
    key: str | None = "features"  # array of an .npz file; unused for .npy
    file: str = "{vid}.npz"  # name of a video's or query's file: {vid} or {qid}


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
    try:
        named = settings.file.format(vid="v", qid="q") != settings.file
    except (LookupError, ValueError):
        named = False
    if not named or Path(settings.file).suffix not in (".npz", ".npy"):
        raise DataError(
            f"stream {name}: file is {settings.file!r}, expected a name with {{vid}} or {{qid}} that ends in .npz "
            "or .npy."
        )
    if Path(settings.file).suffix == ".npz" and not settings.key:
        raise DataError(f"stream {name}: key is {settings.key!r}, expected the name of an array in the .npz files.")
    return settings


def open_stream(root: str | Path, name: str, settings: StreamSettings) -> "FolderStream | PackedStream":
    """The stream at `root / settings.path`. DataError: neither a folder nor a packed file there."""
    path = Path(root) / settings.path
    if packed := packed_beside(path):
        return PackedStream(name, settings, packed)
    if path.is_dir():
        return FolderStream(name, settings, path)
    raise DataError(f"stream {name}: neither a folder nor a packed file at {path.resolve()}")


def read_array(path: Path, key: str, where: str, limit: int | None = None) -> np.ndarray:
    """The first `limit` rows (None: all) of an .npy file, or of array `key` of an .npz file.

    DataError: unreadable, or no such array.
    """
    if path.suffix == ".npy":
        return read_npy(path, f"{where}: {UNREADABLE}", limit)
    return read_npz(path, key, f"{where}: {UNREADABLE}", limit)


class Stream:
    """What both kinds of stream share: names, and the checks of what was read."""

    def __init__(self, name: str, settings: StreamSettings, path: Path):
        self.name, self.width, self.key, self.pattern, self.path = (
            name, settings.dim, settings.key, settings.file, path
        )  # fmt: skip

    def file_of(self, row: Mapping[str, Any]) -> str:
        """Name of the file of an annotation row. DataError: an id that leads to another folder."""
        names = {
            key: file_name(row[key], f"stream {self.name}, {key}")
            for key in ("vid", "qid")
            if f"{{{key}" in self.pattern
        }
        return self.pattern.format(**{"vid": row["vid"], "qid": row["qid"], **names})

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
        with np.errstate(all="ignore"):
            doubtful = not np.isfinite(values.sum())  # several times faster than looking at every number
        if doubtful and not np.isfinite(values).all():
            bad = np.flatnonzero(~np.isfinite(values).all(1))
            raise DataError(f"{where}, row {bad[0]}: not finite (NaN or infinity), in {len(bad)} rows.")
        return values


class FolderStream(Stream):
    """One file per video or query."""

    def missing(self, files: Iterable[str]) -> list[str]:
        """The names of `files` that are not in the folder, in order, each once."""
        with os.scandir(self.path) as entries:
            there = {entry.name for entry in entries}
        return [file for file in dict.fromkeys(files) if file not in there]

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
        return [file for file in dict.fromkeys(files) if Path(file).stem not in self.packed]

    def size(self, files: Iterable[str]) -> int:
        return sum(self.packed.rows(Path(file).stem) for file in dict.fromkeys(files)) * self.width * 4

    def read(self, file: str, *, about: str, limit: int | None = None) -> np.ndarray:
        stem = Path(file).stem
        return self.checked(self.packed.read(stem, limit), f"{self.path}, '{stem}' ({about})")
