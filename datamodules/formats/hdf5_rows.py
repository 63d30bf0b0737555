"""Matrices in an .hdf5 file: a dataset per name, or a group per name with the dataset `key` in it.

    file = RowsFile(Path("c3d.hdf5"), "c3d_features")
    file.names()                              # {"v_a", "v_b", ...}
    file.read("v_a", "vid v_a", limit=75)     # (75, 500)

Links to other files and datasets whose numbers lie elsewhere are refused.
"""

from pathlib import Path

import h5py
import numpy as np

from datamodules.errors import DataError, some
from datamodules.formats.guard import reading
from datamodules.formats.hdf5_file import HDF5File

HDF5 = (".hdf5", ".h5")


class RowsFile(HDF5File):
    """One file of matrices by name. key: the dataset of a group."""

    def __init__(self, path: str | Path, key: str | None):
        super().__init__(path)
        self.key = key

    def names(self) -> set[str]:
        with reading(f"{self.path}: its list of names cannot be read"):
            return set(self.file)

    def dataset(self, name: str, about: str) -> h5py.Dataset:
        """Raises DataError: no such name, a link, a group without the dataset `key`."""
        where = f"{self.path}, '{name}' ({about})"
        with reading(f"{where}: cannot be read"):
            found = self._own(self.file, name, where)
            if isinstance(found, h5py.Group):
                if self.key not in found:
                    raise DataError(f"{where}: no dataset '{self.key}' in it; it has {some(found) or 'none'}.")
                found = self._own(found, self.key, where)
            if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
                raise DataError(f"{where}: expected a dataset whose numbers lie in this file.")
            return found

    def _own(self, group: h5py.Group, name: str, where: str):
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise DataError(f"{where}: a link, perhaps to another file, expected a dataset.")
        return group[name]

    def read(self, name: str, about: str, limit: int | None = None) -> np.ndarray:
        """The first `limit` rows (None: all). Raises DataError."""
        found = self.dataset(name, about)
        with reading(f"{self.path}, '{name}' ({about}): cannot be read"):
            return np.asarray(found[:limit] if found.shape else found[()])
