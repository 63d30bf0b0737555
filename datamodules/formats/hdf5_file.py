"""An .hdf5 file for data loaders: opened when first read in each process, pickled without its handle."""

import os
from pathlib import Path

import h5py

from datamodules.formats.guard import reading


class HDF5File:
    """What readers of one file have in common. path: the file, which need not be there before it is read."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._owner = -1

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None, "_owner": -1}

    @property
    def file(self) -> h5py.File:
        """DataError: no such file, truncated, or of another form."""
        if self._owner != os.getpid():  # a handle must not cross a fork
            with reading(f"{self.path}: cannot be opened as HDF5, probably truncated or not fully downloaded"):
                self._file = h5py.File(self.path, "r")
            self._owner = os.getpid()
        return self._file
