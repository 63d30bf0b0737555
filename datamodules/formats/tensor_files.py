"""Tensors in .pt files, as torch.save writes them: a tensor, or a dict of them. Nothing in the file is run.

read_pt(path, "features", problem, limit=75)     # the first 75 rows as an array
shape_of_pt(path, "features", problem)           # (shape, type), without reading the numbers
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DataError, some
from datamodules.formats.guard import reading
from datamodules.formats.numpy_files import MissingArrayError


def read_pt(path: Path, key: str | None, problem: str, limit: int | None = None) -> np.ndarray:
    """The first `limit` rows (None: all) of the tensor in a file. bfloat16 becomes float32. Raises DataError.

    key: the tensor's name if the file holds a dict.
    """
    tensor = _tensor(path, key, problem)
    with reading(problem):
        rows = tensor if limit is None or not tensor.ndim else tensor[:limit]
        rows = rows.detach()
        return np.array((rows.float() if str(rows.dtype) == "torch.bfloat16" else rows).numpy())


def shape_of_pt(path: Path, key: str | None, problem: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape of the tensor in a file, and the type that `read_pt` gives it. Raises DataError."""
    tensor = _tensor(path, key, problem)
    with reading(problem):
        kind = tensor[:0].detach() if tensor.ndim else tensor.detach()
        kind = kind.float() if str(kind.dtype) == "torch.bfloat16" else kind
        return tuple(tensor.shape), kind.numpy().dtype


def _tensor(path: Path, key: str | None, problem: str) -> Any:
    """The tensor, mapped where the file's form allows that."""
    import torch  # not at the top: readers of .npy files need no torch

    with reading(problem):
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # written in the form before torch 1.6, which cannot be mapped
            found = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(found, Mapping):
        if key not in found:
            raise MissingArrayError(f"{path}: no tensor '{key}'; it has {some(found) or 'none'}.")
        found = found[key]
    if not isinstance(found, torch.Tensor):
        raise DataError(f"{problem} (it holds a {type(found).__name__}, expected a tensor or a dict of tensors).")
    if found.is_sparse or found.is_quantized or found.is_complex():
        raise DataError(f"{problem} (it holds a sparse, quantised or complex tensor, expected plain numbers).")
    return found
