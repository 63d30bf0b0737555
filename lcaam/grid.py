"""Resizing what belongs to key positions to another number of positions, along a line or over a 2-D grid."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_columns(
    columns: Tensor, count: int, old: tuple[int, int] | None, new: tuple[int, int] | None, prefix: int
) -> Tensor:
    """columns (1, G, N, R), a vector per key position -> (1, G, count, R), linearly interpolated between positions.

    old: the (rows, columns) that the N - prefix positions form, None for a line; new: the grid of the count - prefix
    new ones, None for the old one, or, if both can be, a square. The first `prefix` vectors stay as they are. The same
    number of positions returns `columns` itself. Raises ValueError if `new` and `count` do not agree.
    """
    if old is not None:
        new = infer_grid(count - prefix, old) if new is None else new
        if new[0] * new[1] != count - prefix:
            raise ValueError(f"{count} keys with {prefix} prefix tokens are not a grid of {new}")
    elif new is not None:
        raise ValueError("a mask for a line of keys was given a grid: build it with grid=(rows, columns)")
    # in an exported graph a branch on the length would fix it; resizing to the same length returns the same values
    same = not torch.compiler.is_compiling() and columns.shape[2] == count
    if (same and new == old) or count == prefix:
        return columns[:, :, :count]
    first, rest = columns[:, :, :prefix], columns[:, :, prefix:]
    _, groups, positions, width = rest.shape
    image = rest.transpose(2, 3).reshape(1, groups * width, *(old or (positions,)))
    mode = "linear" if old is None else "bilinear"
    image = F.interpolate(image, size=new or (count - prefix,), mode=mode, align_corners=False)
    return torch.cat([first, image.flatten(2).view(1, groups, width, -1).transpose(2, 3)], 2)


HOW = {  # what the columns of a mask become when it is made for another number of keys
    "first": "the first columns stay, further ones start neutral",
    "interpolate": "the columns are resized linearly along the positions",
}


def resized_columns(
    weight: Tensor,
    offset: Tensor,
    groups: int,
    count: int,
    how: str,
    neutral: float,
    old: tuple[int, int] | None = None,
    new: tuple[int, int] | None = None,
    prefix: int = 0,
) -> tuple[Tensor, Tensor]:
    """weight (G N, R) and offset (G N,) of a mask's last layer for N keys -> those for `count` keys.

    how: a key of HOW. neutral: the offset of columns that "first" adds; their weight is 0. old, new, prefix: as in
    resize_columns, for "interpolate". Raises ValueError for an unknown `how`, or grids that do not fit.
    """
    if how not in HOW:
        raise ValueError(f"unknown way to resize {how!r}; allowed: {', '.join(HOW)}")
    weight, offset = weight.unflatten(0, (groups, -1))[None], offset.reshape(1, groups, -1, 1)  # (1, G, N, R or 1)
    if how == "interpolate":
        sizes = (count, old, new, prefix)
        weight, offset = resize_columns(weight, *sizes), resize_columns(offset, *sizes)
    else:
        more = (0, 0, 0, count - weight.shape[2])  # fewer keys: cut
        weight, offset = F.pad(weight, more), F.pad(offset, more, value=neutral)
    return weight.flatten(0, 2), offset.flatten()


def infer_grid(positions: int, old: tuple[int, int]) -> tuple[int, int]:
    if positions == old[0] * old[1]:
        return old
    side = math.isqrt(positions)
    if old[0] == old[1] and side * side == positions:
        return side, side
    raise ValueError(
        f"{positions} positions are not the grid {old} that the mask was made for: give grid=(rows, columns)"
    )
