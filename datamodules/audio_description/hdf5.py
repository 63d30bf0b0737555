"""Feature files: HDF5, movie id -> (rows, width); MAD's are tens of gigabytes, so they are read slice by slice.

Every defect is a DataError that names file, movie and row.

    features = FeatureFile("CLIP_L14_frames_features_5fps.h5", width=768)
    features.lengths(["0017", "0034"])          # {"0017": 31234, ...}
    features.read("0017", 100, 125)             # (25, 768) float32
"""

import os
from pathlib import Path

import h5py
import numpy as np

from datamodules.audio_description.rows import MovieFeatures
from datamodules.errors import DataError

UNREADABLE = (OSError, RuntimeError, KeyError)  # h5py's errors about damaged files


class FeatureFile(MovieFeatures):
    """One HDF5 file, opened when first read in each process. Pickles without its handle."""

    def __init__(self, path: str | Path, width: int):
        self.path, self.width = Path(path), width
        self._file: h5py.File | None = None
        self._owner = -1

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None, "_owner": -1}

    @property
    def file(self) -> h5py.File:
        if self._owner != os.getpid():  # a handle must not cross a fork
            try:
                self._file = h5py.File(self.path, "r")
            except OSError as error:
                raise DataError(
                    f"{self.path}: cannot be opened as HDF5, probably truncated or not fully downloaded ({error})."
                ) from error
            self._owner = os.getpid()
        return self._file

    def movies(self) -> set[str]:
        try:
            return set(self.file)
        except UNREADABLE as error:
            raise DataError(f"{self.path}: its list of movies cannot be read ({error}).") from error

    def shape(self, movie: str) -> tuple[int, ...]:
        try:
            found = self.file[movie]
        except UNREADABLE as error:
            raise DataError(f"{self.path}: movie {movie} cannot be read ({error}).") from error
        if not isinstance(found, h5py.Dataset):
            raise DataError(
                f"{self.path}: movie {movie} is a group with {', '.join(found) or 'nothing'} in it, expected an array."
            )
        self.numbers(movie, found.dtype)
        return found.shape or ()  # an empty data space has None

    def slice(self, movie: str, first: int, stop: int) -> np.ndarray:
        try:
            return self.file[movie][first:stop]
        except UNREADABLE as error:
            raise DataError(
                f"{self.path}: movie {movie}, rows {first} to {stop - 1} cannot be read ({error})."
            ) from error

    def version(self) -> tuple[int, ...]:
        about = self.path.stat()
        return about.st_size, about.st_mtime_ns
