"""Mask: M = left right^T + bias holds for both forms, and a dense mask is its factors multiplied out."""

import pytest
import torch

from lcaam import Fusion, Mask, attention
from lcaam.attention import check_mask
from tests.lcaam.loop import EXACT, gradients, inputs, padding

SHAPES = [(1, 1, 1), (2, 1, 3), (2, 2, 5)]  # batch, groups, queries
PAIRS = [(b, f) for b in (*EXACT, "auto") for f in Fusion if b != "sdpa" or not f.multiplies]


def factors(batch, groups, queries, keys=7):
    *_, left, right, bias = inputs(queries, keys, groups=groups, b=batch)
    return Mask(left, right, bias)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_mask_is_its_factors_and_its_bias_in_both_forms(shape):
    mask = factors(*shape)
    dense = Mask.from_dense(mask.dense())
    for one in (mask, dense):
        assert torch.equal(one.left @ one.right.transpose(-2, -1) + one.bias, mask.dense())
        assert (one.groups, one.num_queries, one.num_keys) == (shape[1], shape[2], 7)
    assert (mask.rank, mask.factored) == (3, True) and (dense.rank, dense.factored) == (0, False)
    assert dense.dense() is dense.values is dense.bias
    with pytest.raises(ValueError, match="factors of rank 3, multiply them out"):
        _ = mask.values


@pytest.mark.parametrize("structure", ["none", "padding", "causal"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("backend, fusion", PAIRS, ids=str)
def test_a_mask_of_rank_0_equals_the_factored_one(backend, fusion, groups, structure):
    options = dict(keep=padding(2, 5) if structure == "padding" else None, causal=structure == "causal")
    found = []
    for form in (lambda mask: mask, lambda mask: Mask.from_dense(mask.dense())):
        leaves = inputs(5, 5, groups=groups)
        q, k, v, left, right, bias = leaves
        out = attention(q, k, v, form(Mask(left, right, bias)), fusion=fusion, backend=backend, **options)
        found.append([out, *gradients(out, leaves)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_the_first_keys_and_a_repeated_batch_are_those_of_the_values():
    mask = factors(2, 2, 5)
    for one in (mask, Mask.from_dense(mask.dense())):
        torch.testing.assert_close(one.first_keys(3).dense(), mask.dense()[..., :3])
        torch.testing.assert_close(one.of_batch(6).dense(), mask.dense().repeat(3, 1, 1, 1))
        assert torch.equal(one.first_keys(7).dense(), mask.dense()) and torch.equal(one.fit(7).dense(), mask.dense())
    assert mask.fit(3).num_keys == 3


def test_what_does_not_fit_is_refused():
    mask = factors(2, 1, 5)
    dense, whole = Mask.from_dense(mask.dense()), Mask(mask.left, mask.right, mask.bias, whole=True)
    for one, keys, message in (
        (mask, 8, "7 key columns and the sequence 8 keys.*interpolate.*content"),
        (dense, 8, "a dense mask of 7 key columns does not fit a sequence of 8"),
        (dense, 6, "a dense mask of 7 key columns does not fit a sequence of 6"),
        (whole, 8, "an interpolated mask of 7 key columns does not fit a sequence of 8"),
        (whole, 6, "an interpolated mask of 7 key columns does not fit a sequence of 6"),
    ):
        with pytest.raises(ValueError, match=message):
            one.fit(keys)
    for one in (mask, dense):
        with pytest.raises(ValueError, match="a mask of batch 2, 1 groups and 5 queries does not fit"):
            check_mask(one, torch.empty(3, 2, 5, 4))
    with pytest.raises(ValueError, match="values must have 4 dimensions"):
        Mask.from_dense(torch.zeros(5, 7))
