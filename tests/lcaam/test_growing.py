"""Masks in decoding with a cache: row by row they are those of the whole sequence."""

import pytest
import torch
from torch import Tensor

from lcaam import LayerMasks
from tests.lcaam.names import SCOPES

FIRST, ROWS = 4, 7  # tokens that are there from the start, and all in the end
SIZES = dict(dim=6, num_keys=ROWS, init="kaiming")


class Rows:
    """The plainest memory: everything that came stays."""

    def __init__(self):
        self.kept, self.rows = 0, {}

    def extend(self, name, rows: Tensor) -> Tensor:
        self.rows[name] = torch.cat([self.rows[name], rows], 2) if name in self.rows else rows
        return self.rows[name]


def grown(masks: LayerMasks, x: Tensor, layer: int) -> list[Tensor | None]:
    """The mask's rows over all columns that there are by then: those of the first tokens, then of one at a time."""
    memory, found = Rows(), []
    for start, stop in [(0, FIRST), *((row, row + 1) for row in range(FIRST, ROWS))]:
        part = x[:, start:stop]
        shared = masks(part, keys=part, memory=memory)
        mask = masks(part, layer, shared, keys=part, memory=memory)
        found.append(None if mask is None else mask.fit(stop).dense())
        memory.kept = stop
    return found


@pytest.mark.parametrize("length", ["fixed", "content"])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("scope", SCOPES)
def test_rows_that_come_one_by_one_are_those_of_the_whole(scope, groups, length):
    torch.manual_seed(0)
    masks, x = LayerMasks(scope, 2, length=length, groups=groups, **SIZES).double(), torch.randn(2, ROWS, 6).double()
    for layer in range(2):
        whole = masks(x, layer, masks(x, keys=x), keys=x).dense()
        parts = grown(masks, x, layer)
        torch.testing.assert_close(parts[0], whole[:, :, :FIRST, :FIRST], rtol=0, atol=1e-12)
        for row, part in enumerate(parts[1:], FIRST):
            torch.testing.assert_close(part, whole[:, :, row : row + 1, : row + 1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_static_mask_of_the_first_tokens_does_not_touch_later_ones(scope):
    masks = LayerMasks(scope, 2, "static", num_queries=FIRST, num_keys=FIRST)
    first, *later = grown(masks, torch.randn(2, ROWS, 6), layer=1)
    assert first.shape == (1, 1, FIRST, FIRST) and later == [None] * (ROWS - FIRST)


def test_masks_that_cannot_grow_say_so():
    interpolated = LayerMasks("per_layer", 2, length="interpolate", **SIZES)
    with pytest.raises(ValueError, match="moves its columns whenever the sequence grows"):
        grown(interpolated, torch.randn(2, ROWS, 6), layer=1)
    wide = LayerMasks("per_layer", 2, "static", num_queries=ROWS, num_keys=ROWS)
    with pytest.raises(ValueError, match=r"rows \(0, 7\).* must be filled in the first step.* had 4 tokens"):
        grown(wide, torch.randn(2, ROWS, 6), layer=1)
