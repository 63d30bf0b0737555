"""How large a tile is, how many heads share one of the mask, how many warps work on it: a small table by architecture.

Its entries hold all their numbers in registers: they were chosen from machine code (docs/fused.md), with `temper`, the
fusion that needs most. On a GPU those of a kind of call are timed once and the fastest is kept, also on disk
(triton.autotune); LCAAM_AUTOTUNE=0 takes the first without timing.
"""

import os
from dataclasses import dataclass

import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # as Triton itself asks, when its functions are made
WIDEST = 256  # of heads and of factors; wider factors are multiplied out
NARROWEST = 16  # what a tensor core multiplies at least
SHARED_BY_INTERPRETER = 2


def atomics() -> bool:
    """Whether gradients may be summed by atomics, in an order that differs from call to call: LCAAM_ATOMICS=1, unless
    torch.use_deterministic_algorithms forbids it."""
    return os.environ.get("LCAAM_ATOMICS") == "1" and not torch.are_deterministic_algorithms_enabled()


@dataclass(frozen=True)
class Tile:
    """BLOCK_M query rows by BLOCK_N key columns; warps and stages as Triton's."""

    rows: int
    columns: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Choice:
    """How many heads share a tile of the mask, if all heads have one mask; and the tiles to try."""

    share: int
    tiles: tuple[Tile, ...]


def choice(kernel: str, architecture: int, size: int, heads: int, one_mask: bool) -> Choice:
    """For a kernel on an architecture (90 for sm_90). size: of the widest of keys, values and factors, in halves."""
    if kernel == "delta":
        return Choice(1, (Tile(32, 1, 4, 1),))
    if INTERPRETED:
        found = Choice(SHARED_BY_INTERPRETER, (Tile(32, 32, 4, 1),))
    else:
        table = TABLE[max([known for known in TABLE if known <= architecture], default=min(TABLE))][kernel]
        fitting = [known for known in table if known >= size]
        found = table[min(fitting)] if fitting else SMALLEST
    share = found.share if one_mask and heads % found.share == 0 else 1
    return Choice(share, found.tiles)


def tried(share: int, *tiles: tuple[int, int, int, int]) -> Choice:
    return Choice(share, tuple(Tile(*tile) for tile in tiles))


SMALLEST = tried(1, (32, 32, 4, 1), (16, 32, 4, 1))  # for heads or factors of 256
# architecture -> kernel -> largest size -> what to try
TABLE: dict[int, dict[str, dict[int, Choice]]] = {
    80: {
        "forward": {64: tried(1, (128, 64, 8, 2), (64, 64, 4, 2)), 128: tried(1, (128, 64, 8, 2), (64, 64, 4, 2))},
        "rows": {64: tried(1, (64, 32, 4, 2), (64, 32, 8, 2)), 128: tried(1, (32, 32, 4, 2), (64, 32, 8, 2))},
        "columns": {64: tried(1, (32, 64, 4, 2), (32, 64, 8, 2)), 128: tried(1, (16, 64, 8, 2), (32, 32, 8, 2))},
        "atomic": {64: tried(1, (32, 64, 8, 2), (32, 32, 4, 1)), 128: tried(1, (64, 32, 8, 1), (32, 32, 8, 1))},
        "values": {64: tried(1, (64, 32, 4, 2), (32, 32, 4, 1)), 128: tried(1, (32, 32, 4, 1))},
    },
    90: {
        "forward": {64: tried(2, (128, 64, 8, 2), (64, 64, 8, 2)), 128: tried(1, (128, 64, 8, 2), (64, 64, 4, 2))},
        "rows": {64: tried(2, (128, 32, 8, 2), (64, 32, 8, 2)), 128: tried(1, (64, 64, 8, 2), (64, 32, 4, 2))},
        "columns": {64: tried(1, (32, 64, 4, 2), (32, 64, 8, 2)), 128: tried(1, (32, 64, 8, 2), (32, 32, 4, 2))},
        "atomic": {64: tried(1, (32, 64, 8, 2), (32, 32, 4, 1)), 128: tried(1, (64, 32, 8, 1), (32, 32, 8, 1))},
        "values": {64: tried(1, (128, 64, 8, 2), (64, 64, 8, 2)), 128: tried(1, (64, 64, 8, 2), (64, 32, 4, 2))},
    },
    100: {
        "forward": {64: tried(2, (128, 64, 8, 2), (64, 64, 8, 2)), 128: tried(1, (128, 32, 8, 2), (128, 64, 8, 2))},
        "rows": {64: tried(2, (64, 32, 8, 2), (128, 32, 8, 2)), 128: tried(1, (128, 64, 8, 2), (64, 64, 8, 2))},
        "columns": {64: tried(1, (64, 128, 8, 2), (64, 64, 8, 2)), 128: tried(1, (32, 64, 8, 2), (64, 64, 8, 2))},
        "atomic": {64: tried(1, (64, 64, 8, 1), (32, 64, 8, 2)), 128: tried(1, (64, 32, 8, 1), (32, 32, 8, 1))},
        "values": {64: tried(1, (128, 64, 8, 2), (64, 64, 8, 2)), 128: tried(1, (64, 64, 8, 2), (64, 32, 4, 2))},
    },
}
