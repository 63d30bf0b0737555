"""Feature folders: one `<movie>.npy` (rows, width) per movie, as AutoAD keeps them; the other form is HDF5.

features = open_features("data/madv2/clip_L14_5fps", width=768)   # a folder, or an HDF5 file
features.read("0017", 100, 125)                                   # (25, 768) float32, only this slice is read
"""

import zlib
from pathlib import Path

import numpy as np

from datamodules.audio_description.hdf5 import FeatureFile
from datamodules.audio_description.rows import MovieFeatures
from datamodules.formats.names import file_name
from datamodules.formats.numpy_files import map_npy

ENDING = ".npy"


def open_features(path: str | Path, width: int) -> MovieFeatures:
    """The features at `path`: the .npy files if it is a folder, otherwise an HDF5 file (opened when first read)."""
    return FeatureFolder(path, width) if Path(path).is_dir() else FeatureFile(path, width)


class FeatureFolder(MovieFeatures):
    """One .npy file per movie, mapped while it is read: nothing is held, no handle stays open."""

    def __init__(self, path: str | Path, width: int):
        self.path, self.width = Path(path), width

    def movies(self) -> set[str]:
        return {file.stem for file in self.path.iterdir() if file.suffix == ENDING}

    def shape(self, movie: str) -> tuple[int, ...]:
        array = self._map(movie)
        self.numbers(movie, array.dtype)
        return array.shape

    def slice(self, movie: str, first: int, stop: int) -> np.ndarray:
        return np.array(self._map(movie)[first:stop])

    def version(self) -> tuple[int, ...]:
        about = [(file.name, file.stat()) for file in sorted(self.path.glob(f"*{ENDING}"))]
        names = zlib.crc32(repr([name for name, _ in about]).encode())
        return (names, *(number for _, stat in about for number in (stat.st_size, stat.st_mtime_ns)))

    def file_of(self, movie: str) -> Path:
        return self.path / f"{file_name(movie, f'{self.path}, movie')}{ENDING}"

    def _map(self, movie: str) -> np.ndarray:
        file = self.file_of(movie)
        return map_npy(file, f"{file}: movie {movie} cannot be read, probably truncated or not fully downloaded")
