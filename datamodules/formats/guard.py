"""Whatever a library raises about a file of data becomes a DataError with the file's name.

with reading(f"{path}: cannot be opened as HDF5"):
    file = h5py.File(path)
"""

from contextlib import AbstractContextManager

from configs import guard
from datamodules.errors import DataError


def reading(problem: str) -> AbstractContextManager[None]:
    """Raises DataError with "<problem> (<reason>)." for whatever is raised inside; see configs/guard.py."""
    return guard.reading(problem, DataError)
