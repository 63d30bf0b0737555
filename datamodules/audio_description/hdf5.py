"""Feature files: HDF5, movie id -> (rows, width); MAD's are tens of gigabytes, so they are read slice by slice.

Every defect is a DataError that names file, movie and row.

    features = FeatureFile("CLIP_L14_frames_features_5fps.h5", width=768)
    features.lengths(["0017", "0034"])          # {"0017": 31234, ...}
    features.read("0017", 100, 125)             # (25, 768) float32
"""

from pathlib import Path

import h5py
import numpy as np

from datamodules.audio_description.rows import MovieFeatures
from datamodules.errors import DataError
from datamodules.formats.guard import reading
from datamodules.formats.hdf5_file import HDF5File


class FeatureFile(HDF5File, MovieFeatures):
    """One HDF5 file of features by movie."""

    def __init__(self, path: str | Path, width: int):
        super().__init__(path)
        self.width = width

    def movies(self) -> set[str]:
        with reading(f"{self.path}: its list of movies cannot be read"):
            return set(self.file)

    def shape(self, movie: str) -> tuple[int, ...]:
        with reading(f"{self.path}: movie {movie} cannot be read"):
            if not isinstance(self.file.get(movie, getlink=True), h5py.HardLink):
                raise DataError(f"{self.path}: movie {movie} is a link, perhaps to another file, expected an array.")
            found = self.file[movie]
            if not isinstance(found, h5py.Dataset):
                inside = ", ".join(found) or "nothing"
                raise DataError(f"{self.path}: movie {movie} is a group with {inside} in it, expected an array.")
            if found.external or found.is_virtual:
                raise DataError(f"{self.path}: the rows of movie {movie} lie in another file.")
            self.numbers(movie, found.dtype)
            return found.shape or ()  # an empty data space has None

    def slice(self, movie: str, first: int, stop: int) -> np.ndarray:
        with reading(f"{self.path}: movie {movie}, rows {first} to {stop - 1} cannot be read"):
            return self.file[movie][first:stop]

    def version(self) -> tuple[int, ...]:
        about = self.path.stat()
        return about.st_size, about.st_mtime_ns
