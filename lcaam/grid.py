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
    check_how(how)
    weight, offset = weight.unflatten(0, (groups, -1))[None], offset.reshape(1, groups, -1, 1)  # (1, G, N, R or 1)
    if how == "interpolate":
        sizes = (count, old, new, prefix)
        weight, offset = resize_columns(weight, *sizes), resize_columns(offset, *sizes)
    else:
        more = (0, 0, 0, count - weight.shape[2])  # fewer keys: cut
        weight, offset = F.pad(weight, more), F.pad(offset, more, value=neutral)
    return weight.flatten(0, 2), offset.flatten()


def old_grid(
    positions: int, given: tuple[int, int] | None, own: tuple[int, int] | None, how: str
) -> tuple[int, int] | None:
    """The (rows, columns) that `positions` positions of a checkpoint formed; None for a line.

    given: what the user says of them; own: the grid that they are resized to, None for a line. Raises ValueError if
    that cannot be, and for `how` "first", which would mix up the rows of another grid.
    """
    if own is None:
        if given is not None:
            raise ValueError("a mask for a line of keys was given a grid: build it with grid=(rows, columns)")
        return None
    old = infer_grid(positions, own) if given is None else given
    if how == "first" and old != own:
        raise ValueError("a mask of a 2-D grid of keys is resized with how='interpolate'")
    if old[0] * old[1] != positions:
        raise ValueError(
            f"{positions} positions behind the prefix, whose columns are to be resized, are not a grid of {old}"
        )
    return old


def resized_along(
    dim: int,
    values: Tensor,
    count: int,
    how: str,
    old: tuple[int, int] | None,
    new: tuple[int, int] | None,
    prefix: int,
) -> Tensor:
    """values (G, ...) with a number for each position along dimension `dim` -> the same for `count` positions; those
    that "first" adds are 0. how ... prefix: as in resized_columns."""
    check_how(how)
    moved = values.movedim(dim, 1)  # (G, N, ...)
    if how == "interpolate":
        columns = resize_columns(moved.reshape(1, *moved.shape[:2], -1), count, old, new, prefix)  # (1, G, count, R)
        moved = columns[0].reshape(len(moved), count, *moved.shape[2:])
    else:
        moved = moved[:, :count]
        moved = torch.cat([moved, moved.new_zeros(len(moved), count - moved.shape[1], *moved.shape[2:])], 1)
    return moved.movedim(1, dim)


def resized_offsets(values: Tensor, shape: tuple[int, ...], how: str) -> Tensor:
    """values (G, 2 N - 1) or (G, 2 h - 1, 2 w - 1), a number for each offset -> (G, *shape). Offset 0 stays in the
    middle: "first" cuts or adds zeros at both ends, "interpolate" stretches the offsets linearly."""
    check_how(how)
    if values.shape[1:] == shape or any(size % 2 == 0 for size in values.shape[1:]):
        return values
    if how == "interpolate":
        mode = "linear" if len(shape) == 1 else "bilinear"
        return F.interpolate(values[None], size=shape, mode=mode, align_corners=True)[0]
    more = [(new - old) // 2 for new, old in zip(reversed(shape), reversed(values.shape[1:]), strict=True)]
    return F.pad(values, [each for size in more for each in (size, size)])


def check_how(how: str) -> None:
    if how not in HOW:
        raise ValueError(f"unknown way to resize {how!r}; allowed: {', '.join(HOW)}")


def infer_grid(positions: int, old: tuple[int, int]) -> tuple[int, int]:
    if positions == old[0] * old[1]:
        return old
    side = math.isqrt(positions)
    if old[0] == old[1] and side * side == positions:
        return side, side
    raise ValueError(
        f"{positions} positions are not the grid {old} that the mask was made for: give grid=(rows, columns)"
    )
