"""Feature rows of movies, wherever they lie: what HDF5 files and folders of .npy files have in common.

features = open_features("CLIP_L14_frames_features_5fps.h5", width=768)   # npy.py
features.lengths(["0017", "0034"])          # {"0017": 31234, ...}
features.read("0017", 100, 125)             # (25, 768) float32
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from datamodules.errors import DataError, some
from datamodules.finite import check_numbers


class MovieFeatures(ABC):
    """Movie id -> (rows, width). Defects are DataErrors that name file, movie and row. Pickles without handles."""

    path: Path
    width: int

    @abstractmethod
    def movies(self) -> set[str]:
        """Ids of all movies that are there."""

    @abstractmethod
    def shape(self, movie: str) -> tuple[int, ...]:
        """Shape of a movie that is there. DataError: unreadable, no array, no numbers."""

    @abstractmethod
    def slice(self, movie: str, first: int, stop: int) -> np.ndarray:
        """Rows first..stop-1 of a movie, as they are stored. DataError: unreadable."""

    @abstractmethod
    def version(self) -> tuple[int, ...]:
        """Numbers that change when the features do: sizes and times of the files."""

    def file_of(self, movie: str) -> Path:
        """The file that holds a movie's rows."""
        return self.path

    def lengths(self, movies: Iterable[str]) -> dict[str, int]:
        """Number of rows of each movie. DataError: movies that are missing (all named), no matrix, another width."""
        movies, there = list(movies), self.movies()
        missing = [movie for movie in movies if movie not in there]
        if missing:
            near = [key for key in sorted(there) if key.lstrip("0") == missing[0].lstrip("0")]
            hint = f" It has '{near[0]}': were leading zeros lost?" if near else ""
            raise DataError(f"{self.path}: no features of {len(missing)} movies: {some(missing)}.{hint}")
        found = {}
        for movie in movies:
            shape = self.shape(movie)
            if len(shape) != 2 or shape[1] != self.width:
                raise DataError(
                    f"{self.file_of(movie)}: movie {movie} has shape {shape}, expected (rows, {self.width}). "
                    "Set data.video_dim / data.audio_dim to the width of these features or use the matching file."
                )
            found[movie] = shape[0]
        return found

    def read(self, movie: str, first: int, stop: int) -> np.ndarray:
        """Rows first..stop-1 of a movie, (stop - first, width) float32. DataError: unreadable, NaN or infinite."""
        rows = self.slice(movie, first, stop).astype(np.float32)
        check_numbers(rows, f"{self.file_of(movie)}: movie {movie}", first)
        return rows

    def numbers(self, movie: str, dtype: np.dtype) -> None:
        """DataError if the stored type is not a type of real numbers."""
        if not (np.issubdtype(dtype, np.floating) or np.issubdtype(dtype, np.integer)):
            raise DataError(f"{self.file_of(movie)}: movie {movie} has values of type {dtype}, expected numbers.")
