"""Feature files: HDF5, movie id -> (rows, width); MAD's are tens of gigabytes, so they are read slice by slice.

Every defect is a DataError that names file, movie and row.

    features = FeatureFile("CLIP_L14_frames_features_5fps.h5", width=768)
    features.lengths(["0017", "0034"])          # {"0017": 31234, ...}
    features.read("0017", 100, 125)             # (25, 768) float32
"""

import os
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np

from datamodules.errors import DataError, some


class FeatureFile:
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

    def lengths(self, movies: Iterable[str]) -> dict[str, int]:
        """Rows of each movie. DataError: movies that are missing (all named), no matrix, another width."""
        movies = list(movies)
        missing = [movie for movie in movies if movie not in self.file]
        if missing:
            near = [key for key in self.file if key.lstrip("0") == missing[0].lstrip("0")]
            hint = f" It has '{near[0]}': were leading zeros lost?" if near else ""
            raise DataError(f"{self.path}: no features of {len(missing)} movies: {some(missing)}.{hint}")
        found = {}
        for movie in movies:
            shape = self.file[movie].shape
            if len(shape) != 2 or shape[1] != self.width:
                raise DataError(
                    f"{self.path}: movie {movie} has shape {shape}, expected (rows, {self.width}). "
                    "Set data.video_dim / data.audio_dim to the width of these features or use the matching file."
                )
            found[movie] = shape[0]
        return found

    def read(self, movie: str, first: int, stop: int) -> np.ndarray:
        """Rows first..stop-1 of a movie, (stop - first, width) float32. DataError: unreadable, NaN or infinite."""
        try:
            rows = self.file[movie][first:stop].astype(np.float32)
        except OSError as error:
            raise DataError(
                f"{self.path}: movie {movie}, rows {first} to {stop - 1} cannot be read ({error})."
            ) from error
        bad = np.flatnonzero(~np.isfinite(rows).all(1))
        if len(bad):
            raise DataError(f"{self.path}: movie {movie}, row {first + bad[0]}: not finite (NaN or infinity).")
        return rows
