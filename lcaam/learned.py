"""Masks that read nothing: a few learned numbers, the same for every input. The lower rungs of lcaam.ladder.

>>> masks = LayerMasks("per_layer", num_layers=8, kind="columns", num_keys=50, fusion="add")

They differ in which number the pair of query i and key j has, G times (groups):

    temperature  t                      1 number
    blocks       T[a(i), a(j)]          A x A numbers for the A modalities that the tokens are of
    columns      b[j]                   N_k numbers
    offsets      c[j - i]               N_q + N_k - 1 numbers; (2 h - 1) (2 w - 1) for a grid of h x w patches
    table        T[i, j]                N_q N_k numbers

All start at the fusion's neutral value, which is plain attention. What is learned, and what weight decay makes
smaller, is the difference to it. Shorter sequences use the upper left part. StaticMask is something else: SwinBERT's
published mask.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.grid import old_grid, resized_along, resized_offsets
from lcaam.memory import Memory
from lcaam.module import MaskModule


class LearnedMask(MaskModule):
    """What these masks share.

    groups: 1 (one mask for all heads) or the number of heads. fusion: what the masks are made for.
    shape:  of `change` within a group. limits: the most queries and keys that they serve, None is any number.
    start:  the numbers' value at the start; None is the fusion's neutral one.

    Raises ValueError for a size below 1, and a fusion that the kind has no form for.
    """

    fusion: Fusion
    rows_have_places = True

    def __init__(
        self,
        groups: int,
        fusion: str | Fusion,
        shape: tuple[int, ...] = (),
        limits: tuple[int | None, int | None] = (None, None),
        start: float | None = None,
    ):
        super().__init__()
        self.groups, self.fusion, self.limits = groups, Fusion.parse(fusion), limits
        self.start = self.fusion.neutral if start is None else start
        name = type(self).__name__
        if self.fusions is not None and self.fusion.name not in self.fusions:
            allowed = ", ".join(f"{one} ({remark})" for one, remark in self.fusions.items())
            raise ValueError(f"{name}: fusion {self.fusion.name!r} has no such form; allowed: {allowed}")
        if min((groups, *shape, *(limit for limit in limits if limit is not None))) < 1:
            raise ValueError(f"{name}: sizes must be at least 1, got groups={groups}, queries and keys {limits}")
        self.change = nn.Parameter(torch.empty(groups, *shape))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Starts again."""
        nn.init.zeros_(self.change)

    @property
    def numbers(self) -> Tensor:
        """The mask's numbers (G, ...)."""
        return self.start + self.change

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Mask:
        """x (B, N_q, D), keys (B, N_k, D) or None for x -> Mask (1, G, N_q, N_k). Only the counts matter.

        Raises ValueError for more queries or keys than the mask was made for.
        """
        return self.checked(0, x.shape[1], (x if keys is None else keys).shape[1])

    def grow(self, x: Tensor, memory: Memory, name: Any) -> Mask:
        """As in MaskModule; all rows that there are by then if samples begin with padding, which moves them."""
        start, stop = 0 if getattr(memory, "padded", False) else memory.kept, memory.kept + x.shape[1]
        return self.checked(start, stop - start, stop)

    def checked(self, start: int, rows: int, columns: int) -> Mask:
        for what, size, limit in zip(("queries", "keys"), (start + rows, columns), self.limits, strict=True):
            if limit is not None and size > limit:
                raise ValueError(
                    f"{type(self).__name__}: a sequence of {size} {what}, the mask was made for at most {limit}: build "
                    f"it with num_{what}={size} or more"
                )
        return self.mask(start, rows, columns)

    def mask(self, start: int, rows: int, columns: int) -> Mask:
        """The mask of rows `start` to `start + rows` over the first `columns` keys."""
        raise NotImplementedError(f"{type(self).__name__} has no mask(start, rows, columns)")

    def resized_state(
        self, state: Mapping[str, Tensor], how: str = "first", grid: tuple[int, int] | None = None
    ) -> dict[str, Tensor]:
        """As in MaskModule."""
        state, change = dict(state), state.get("change")
        if change is not None and len(change) == self.groups and change.dim() == self.change.dim():
            state["change"] = self.resized(change, how, grid)
        return super().resized_state(state)

    def resized(self, change: Tensor, how: str, grid: tuple[int, int] | None) -> Tensor:
        """What another mask has learned, in this one's shape; as it is if it cannot be resized."""
        return change


class TemperatureMask(LearnedMask):
    """One number: every score of the layer is multiplied by it. For fusions that add it would change nothing."""

    fusions: ClassVar[Mapping[str, str]] = {"mul": "a factor of either sign", "temper": "a positive factor"}

    def __init__(self, groups: int = 1, fusion: str | Fusion = "mul"):
        super().__init__(groups, fusion)

    def mask(self, start: int, rows: int, columns: int) -> Mask:
        right = self.numbers[None, :, None, None].expand(1, -1, columns, 1)
        return Mask(right.new_ones(1, 1, rows, 1), right, fusion=self.fusion)


class BlockMask(LearnedMask):
    """A number for each pair of modalities: how much the tokens of one attend to those of the other.

    boundaries: where a modality's tokens end and the next one's begin, e.g. (25,) for 25 visual and 25 audio tokens.
    Raises ValueError without boundaries, or for some that do not rise from 1 on.
    """

    def __init__(self, boundaries: tuple[int, ...] = (), groups: int = 1, fusion: str | Fusion = "mul"):
        self.boundaries = tuple(boundaries)
        if not self.boundaries:
            raise ValueError(
                "BlockMask: these tokens are of one modality, so there are no blocks; it is for sequences of several, "
                "with boundaries=(number of tokens of the first, ...)"
            )
        if any(low >= high for low, high in zip((0, *self.boundaries), self.boundaries, strict=False)):
            raise ValueError(f"BlockMask: boundaries {self.boundaries} do not rise from 1 on")
        super().__init__(groups, fusion, (len(boundaries) + 1, len(boundaries) + 1))

    def modalities(self, start: int, count: int) -> Tensor:
        """The modality of each of the tokens from `start` on, (count,)."""
        places = torch.arange(start, start + count, device=self.change.device)
        return torch.bucketize(places, torch.tensor(self.boundaries, device=places.device), right=True)

    def mask(self, start: int, rows: int, columns: int) -> Mask:
        number = len(self.boundaries) + 1
        left = F.one_hot(self.modalities(start, rows), number)[None, None].to(self.change.dtype)  # (1, 1, N_q, A)
        right = self.numbers.transpose(1, 2)[:, self.modalities(0, columns)]  # (G, N_k, A)
        return Mask(left, right[None], fusion=self.fusion)


class ColumnMask(LearnedMask):
    """A number for each key: how much every query attends to it.

    num_keys, grid, prefix: as in ContextAwareMask; the last two matter only for resizing.
    """

    def __init__(
        self,
        num_keys: int,
        groups: int = 1,
        fusion: str | Fusion = "mul",
        grid: tuple[int, int] | None = None,
        prefix: int = 0,
    ):
        super().__init__(groups, fusion, (num_keys,), (None, num_keys))
        self.num_keys, self.grid, self.prefix = num_keys, grid, prefix

    def mask(self, start: int, rows: int, columns: int) -> Mask:
        right = self.numbers[None, :, :columns, None]
        return Mask(right.new_ones(1, 1, rows, 1), right, fusion=self.fusion)

    def resized(self, change: Tensor, how: str, grid: tuple[int, int] | None) -> Tensor:
        old = old_grid(change.shape[1] - self.prefix, grid, self.grid, how)
        return resized_along(1, change, self.num_keys, how, old, self.grid, self.prefix)


class PairMask(LearnedMask):
    """What masks of pairs of positions share.

    grid:   (rows, columns) of 2-D tokens; None is a line.
    prefix: number of first tokens that have no position (class, registers).
    num_queries: None if queries and keys are the same tokens.
    """

    def __init__(
        self,
        num_keys: int,
        num_queries: int | None = None,
        groups: int = 1,
        fusion: str | Fusion = "mul",
        grid: tuple[int, int] | None = None,
        prefix: int = 0,
    ):
        num_queries = num_keys if num_queries is None else num_queries
        shape = self.shape_of(num_queries, num_keys, grid, prefix)
        super().__init__(groups, fusion, shape, (num_queries, num_keys))
        self.num_queries, self.num_keys, self.grid, self.prefix = num_queries, num_keys, grid, prefix

    @staticmethod
    def shape_of(num_queries: int, num_keys: int, grid: tuple[int, int] | None, prefix: int) -> tuple[int, ...]:
        """The shape of the learned numbers of a group."""
        return num_queries, num_keys


class OffsetMask(PairMask):
    """A number for each offset j - i between key and query (a Toeplitz matrix).

    Offsets in a grid are pairs of numbers. Pairs of the prefix tokens stay neutral. Other arguments as in PairMask.
    """

    @staticmethod
    def shape_of(num_queries: int, num_keys: int, grid: tuple[int, int] | None, prefix: int) -> tuple[int, ...]:
        """As in PairMask. ValueError for a grid that is not the tokens'."""
        places = (num_queries - prefix, num_keys - prefix)
        if grid is None:
            return (sum(places) - 1,)
        if places != (grid[0] * grid[1],) * 2:
            raise ValueError(f"OffsetMask: {prefix} prefix tokens and a grid of {grid} are not {num_keys} keys")
        return 2 * grid[0] - 1, 2 * grid[1] - 1

    def mask(self, start: int, rows: int, columns: int) -> Mask:
        first = max(start, self.prefix)  # the first row with a position
        high, wide = start + rows - first, columns - self.prefix
        if high < 1 or wide < 1:
            values = self.numbers.new_full((self.groups, rows, columns), self.fusion.neutral)
        else:
            values = self.of_places(first - self.prefix, high, wide)
            values = F.pad(values, (columns - wide, 0, rows - high, 0), value=self.fusion.neutral)
        return Mask.from_dense(values[None], self.fusion)

    def of_places(self, start: int, rows: int, columns: int) -> Tensor:
        """The values (G, rows, columns) of queries from place `start` on and the first keys."""
        if self.grid is None:  # row i is the window that begins N_q - 1 - i numbers in
            last = self.num_queries - self.prefix - start
            return self.numbers.unfold(1, columns, 1)[:, last - rows : last].flip(1)
        height, width = self.grid
        i, j = (torch.arange(count, device=self.change.device) for count in (rows, columns))
        i = i + start
        down = j // width - (i // width)[:, None] + height - 1
        right = j % width - (i % width)[:, None] + width - 1
        return self.numbers[:, down, right]

    def resized(self, change: Tensor, how: str, grid: tuple[int, int] | None) -> Tensor:
        if self.num_queries != self.num_keys:  # where offset 0 was in another such mask is not known
            return change
        return resized_offsets(change, self.change.shape[1:], how)


class TableMask(PairMask):
    """A number for each pair: what any mask can be that does not read its input. Arguments as in PairMask."""

    def mask(self, start: int, rows: int, columns: int) -> Mask:
        return Mask.from_dense(self.numbers[None, :, start : start + rows, :columns], self.fusion)

    def resized(self, change: Tensor, how: str, grid: tuple[int, int] | None) -> Tensor:
        for dim, count in ((1, self.num_queries), (2, self.num_keys)):
            old = old_grid(change.shape[dim] - self.prefix, grid, self.grid, how)
            change = resized_along(dim, change, count, how, old, self.grid, self.prefix)
        return change
