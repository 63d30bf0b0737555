"""How large a tile is, how many heads share one of the mask, how many warps work on it: a small table to start from.

On a GPU the entries of a table are timed once for each kind of call and the fastest is kept, also on disk
(triton.autotune). The first entry is what is compiled ahead of time by `python -m scripts.benchmark machine_code`, and
what runs with LCAAM_AUTOTUNE=0.
"""

import os
from dataclasses import dataclass

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # as Triton itself asks, when its functions are made
WIDEST = 256  # of heads and of factors; wider factors are multiplied out
NARROWEST = 16  # what a tensor core multiplies at least


@dataclass(frozen=True)
class Tile:
    """BLOCK_M query rows by BLOCK_N key columns; warps and stages as Triton's."""

    rows: int
    columns: int
    warps: int
    stages: int


INTERPRETER = (Tile(32, 32, 4, 1),)


def share(heads: int, one_mask: bool, width: int, rank: int, gradients: int) -> int:
    """How many heads a program takes for one tile of the mask: a divisor of `heads`, as many as registers hold.

    width: of the wider of a head's keys and values, rank: of the factors (0: none), both padded. gradients: how many
    matrices of a head's width a program collects (1: out or d_query; 2: d_key and d_value).
    """
    if not one_mask:
        return 1
    room = 4 if INTERPRETED else 256 // (width * gradients)
    room = room // 2 if rank > 128 else room
    return next(count for count in (4, 2, 1) if count <= max(room, 1) and heads % count == 0)


def tiles(kernel: str, width: int, rank: int, bytes_each: int, count: int) -> tuple[Tile, ...]:
    """What to try, the best guess first. count: the heads that share a tile."""
    if INTERPRETED:
        return INTERPRETER
    wide = width * bytes_each > 256 or rank * bytes_each > 256
    if kernel == "forward":
        if wide:
            return (Tile(64, 32, 4, 2), Tile(64, 32, 8, 2), Tile(32, 32, 4, 2))
        warps = 8 if count > 1 else 4
        return (Tile(64, 64, warps, 2), Tile(128, 64, 8, 2), Tile(64, 32, warps, 3))
    if wide:
        return (Tile(32, 32, 4, 1), Tile(32, 32, 8, 1), Tile(64, 32, 8, 1))
    if kernel == "rows":
        return (Tile(64, 32, 4 if count == 1 else 8, 2), Tile(64, 64, 8, 1), Tile(32, 32, 4, 2))
    if kernel == "columns":
        return (Tile(32, 64, 4 if count == 1 else 8, 2), Tile(64, 64, 8, 1), Tile(32, 32, 4, 2))
    return (Tile(64, 64, 4, 1), Tile(64, 64, 8, 1), Tile(32, 64, 4, 1))
