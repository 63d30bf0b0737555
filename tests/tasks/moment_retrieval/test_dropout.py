"""Dropout from 16 random bits: its law, its gradient, and that it is nn.Dropout wherever that is faster."""

import pytest
import torch
from scipy import stats
from torch import nn

from tasks.moment_retrieval.dropout import LEVELS, Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_every_place_is_dropped_with_probability_p(p):
    """Binomial counts over all places, over each of the four places of a 64-bit word, and over pairs of neighbours."""
    torch.manual_seed(0)
    dropped = Dropout(p)(torch.ones(500, 1001)) == 0
    flat = dropped.flatten()
    for values in (flat, *(flat[lane::4] for lane in range(4))):
        assert stats.binomtest(int(values.sum()), len(values), p).pvalue > 1e-4
    for step in (1, 2, 4, 1001):
        both = (flat[:-step] & flat[step:]).sum()
        expected, number = p * p, len(flat) - step
        # neighbouring pairs overlap: their count has at most three times the variance of independent ones
        assert abs(int(both) - expected * number) < 4 * (3 * number * expected * (1 - expected)) ** 0.5


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_what_is_kept_is_scaled_so_that_the_expectation_stays(p):
    torch.manual_seed(0)
    x = torch.randn(7, 131)
    out = Dropout(p)(x)
    kept = out != 0
    share = 1 - round(p * LEVELS) / LEVELS
    assert torch.allclose(out[kept], x[kept] / share) and abs(share - (1 - p)) <= 0.5 / LEVELS
    many = torch.stack([Dropout(p)(x) for _ in range(4000)]).mean(0)
    assert (many - x).abs().max() < 6 * (p / (1 - p) / 4000) ** 0.5 * x.abs().max()


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5,), (2, 0, 3), (3, 4, 5)])
def test_any_shape_and_its_gradient_is_the_pattern_itself(shape):
    torch.manual_seed(0)
    x = (torch.rand(shape, dtype=torch.float64) + 1).requires_grad_()
    out = Dropout(0.5)(x)
    out.sum().backward()
    assert out.shape == x.shape and torch.equal(out, x * x.grad)
    assert set(x.grad.flatten().tolist()) <= {0.0, 2.0}


def test_a_transposed_input_gets_independent_places():
    x = torch.ones(64, 256).t()
    torch.manual_seed(0)
    counts = (Dropout(0.5)(x) == 0).sum(0)
    assert counts.float().std() > 0 and abs(counts.float().mean() - 128) < 5


def test_a_seed_gives_the_pattern_again_and_another_call_another():
    torch.manual_seed(3)
    x, layer = torch.ones(4096), Dropout(0.1)
    first, second = layer(x), layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first) and not torch.equal(first, second)


@pytest.mark.parametrize("p, value", [(0.0, 1.0), (1.0, 0.0), (1e-9, 1.0)])
def test_probabilities_at_the_ends(p, value):
    assert torch.equal(Dropout(p)(torch.ones(9)), torch.full((9,), value))


def test_evaluation_changes_nothing_and_bfloat16_stays():
    x = torch.randn(5, 3)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert Dropout(0.5)(x.bfloat16()).dtype == torch.bfloat16
    assert isinstance(Dropout(0.5), nn.Dropout)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Dropout(1.5)


def test_compiled_it_is_torch_s_own():
    torch.manual_seed(0)
    compiled = torch.compile(Dropout(0.5), backend="eager", fullgraph=True)
    first = compiled(torch.ones(101))
    torch.manual_seed(0)
    assert torch.equal(first, nn.Dropout(0.5)(torch.ones(101)))
