"""Arrays in .npy and .npz files. Nothing is allocated before the header has been compared with the size of the file.

    read_npy(path, problem, limit=75)            # the first 75 rows
    read_npz(path, "features", problem, limit=75)
    map_npy(path, problem)                       # a memory map

`problem` begins the message of the DataError: "<path>: cannot be read". A header that announces another size than the
file has is refused, be it 10^12 rows or one byte more than there is: its shape or its type may be what is damaged.
Pickled objects are refused.
"""

import zipfile
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from datamodules.errors import DataError, some
from datamodules.formats.guard import reading

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
LARGE, DENSE = 2**28, 100  # bytes and bytes per packed byte from which an .npz file is taken for a bomb
PIECE = 2**20


class Header(NamedTuple):
    """What an .npy file says of its array."""

    shape: tuple[int, ...]
    dtype: np.dtype
    columns_first: bool
    start: int  # of the numbers in the file
    size: int  # of the numbers, in bytes


class MissingArrayError(DataError):
    """An .npz file that can be read and has other arrays than the one that was asked for."""


def read_header(file: BinaryIO) -> Header:
    """The header at the beginning of an .npy file. Raises whatever NumPy raises, and ValueError for objects."""
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"npy version {version}")
    shape, columns_first, dtype = HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, not numbers")
    if any(length < 0 for length in shape):
        raise ValueError(f"shape {shape}")
    count = 1
    for length in shape:
        count *= int(length)
    return Header(shape, dtype, columns_first, file.tell(), count * dtype.itemsize)


def map_npy(path: Path, problem: str) -> np.ndarray:
    """The array of an .npy file, mapped. Raises DataError."""
    with reading(problem):
        _header_of(path, problem)
        return np.load(path, mmap_mode="r", allow_pickle=False)


def read_npy(path: Path, problem: str, limit: int | None = None) -> np.ndarray:
    """The array of an .npy file, or its first `limit` rows. Raises DataError."""
    with reading(problem):
        header = _header_of(path, problem)
        with path.open("rb") as file:
            file.seek(header.start)
            return _rows(file, header, limit)


def read_npz(path: Path, key: str, problem: str, limit: int | None = None) -> np.ndarray:
    """The array `key` of an .npz file, or its first `limit` rows. Raises DataError, also if there is no such array."""
    with reading(problem), zipfile.ZipFile(path) as archive:
        member = _member(archive, key, path)
        with archive.open(member) as file:
            header = _checked(read_header(file), member.file_size, problem)
            bomb = member.file_size > max(LARGE, DENSE * member.compress_size)
            if bomb and (limit is None or header.columns_first or not header.shape):
                raise DataError(
                    f"{problem} (its {member.compress_size:,} bytes unpack to {member.file_size:,}, which is too much)."
                )
            values = _rows(file, header, limit)
            while not bomb and file.read(PIECE):  # to the end, where the checksum is compared
                pass
            return values


def header_of_npz(path: Path, key: str, problem: str) -> Header:
    """What an .npz file says of its array `key`. Raises DataError."""
    with reading(problem), zipfile.ZipFile(path) as archive:
        member = _member(archive, key, path)
        with archive.open(member) as file:
            return _checked(read_header(file), member.file_size, problem)


def header_of_npy(path: Path, problem: str) -> Header:
    """What an .npy file says of its array. Raises DataError."""
    with reading(problem):
        return _header_of(path, problem)


def _header_of(path: Path, problem: str) -> Header:
    with path.open("rb") as file:
        return _checked(read_header(file), path.stat().st_size, problem)


def _checked(header: Header, size: int, problem: str) -> Header:
    if header.start + header.size != size:
        raise DataError(
            f"{problem} (its header announces {header.shape} {header.dtype}, {header.start + header.size:,} bytes in "
            f"all; it has {size:,})."
        )
    return header


def _member(archive: zipfile.ZipFile, key: str, path: Path) -> zipfile.ZipInfo:
    names = archive.namelist()
    if f"{key}.npy" not in names:
        arrays = some(name.removesuffix(".npy") for name in names) or "none"
        raise MissingArrayError(f"{path}: no array '{key}'; it has {arrays}.")
    return archive.getinfo(f"{key}.npy")


def _rows(file: BinaryIO, header: Header, limit: int | None) -> np.ndarray:
    """The array whose numbers come next in `file`, or its first `limit` rows."""
    shape = header.shape
    if shape and limit is not None and not header.columns_first:
        shape = (min(limit, shape[0]), *shape[1:])
    values = np.empty(shape, header.dtype, order="F" if header.columns_first else "C")
    left = memoryview(values.reshape(-1, order="A").view(np.uint8)) if values.size else memoryview(b"")
    while len(left):
        got = file.readinto(left)
        if not got:
            raise EOFError("it ends within its numbers")
        left = left[got:]
    return values[:limit] if shape else values
