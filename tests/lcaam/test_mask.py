"""ContextAwareMask: the paper's formula, its initialisations, its parameters."""

import pytest
import torch

from lcaam import ContextAwareMask, EncoderLayer, Fusion, attention
from tests.lcaam.names import FUSIONS


def test_it_is_the_papers_formula():
    net = ContextAwareMask(dim=5, num_keys=7, depth=4, hidden=6, init="default")
    x = torch.randn(2, 3, 5)
    h = x
    for linear in net.hidden:
        h = torch.relu(h @ linear.weight.T + linear.bias)
    expected = h @ net.last.weight.T + net.last.bias
    torch.testing.assert_close(net(x).dense(), expected[:, None])
    assert len(net.hidden) + 1 == 4


def test_depth_one_is_a_single_linear_layer():
    net = ContextAwareMask(dim=5, num_keys=7, depth=1, init="default")
    x = torch.randn(2, 3, 5)
    torch.testing.assert_close(net(x).dense(), (x @ net.last.weight.T + net.last.bias)[:, None])
    assert sum(p.numel() for p in net.parameters()) == 5 * 7 + 7


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("rank", [None, 1, 3])
def test_shapes_of_factors(groups, rank):
    net = ContextAwareMask(dim=6, num_keys=9, depth=3, hidden=5, rank=rank, groups=groups, init="default")
    mask = net(torch.randn(2, 7, 6))
    assert mask.left.shape == (2, groups if rank else 1, 7, rank or 5)
    assert mask.right.shape == (1, groups, 9, rank or 5)
    assert mask.bias.shape == (1, groups, 1, 9)
    assert mask.dense().shape == (2, groups, 7, 9)
    if rank:
        assert torch.linalg.matrix_rank((mask.dense() - mask.bias)[0, 0].detach()) <= rank


@pytest.mark.parametrize("depth", [1, 3, 32])
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("options", [{}, {"rank": 2}, {"groups": 2}, {"residual": True}], ids=str)
def test_identity_initialisation_is_plain_attention(fusion, depth, options):
    torch.manual_seed(0)
    net = ContextAwareMask(dim=16, num_keys=9, depth=depth, fusion=fusion, **options)
    q, k, v, x = torch.randn(3, 2, 9, 8), torch.randn(3, 2, 9, 8), torch.randn(3, 2, 9, 8), torch.randn(3, 9, 16)
    expected = attention(q, k, v, backend="reference")
    out = attention(q, k, v, net(x), fusion=fusion, backend="reference")
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 3, 32])
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("options", [{}, {"rank": 2}, {"groups": 2}, {"residual": True}], ids=str)
def test_every_parameter_has_a_gradient_at_step_1_and_a_non_zero_one_after_step_2(fusion, depth, options):
    torch.manual_seed(0)
    net = ContextAwareMask(dim=16, num_keys=9, depth=depth, fusion=fusion, **options)
    layer = EncoderLayer(dim=16, heads=2, fusion=fusion)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    x = torch.randn(4, 9, 16)
    for step in range(3):
        optimiser.zero_grad()
        layer(x, mask=net(x)).square().sum().backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
        if step == 0 and depth > 1:
            assert all(linear.weight.grad.abs().max() == 0 for linear in net.hidden)
        if step == 2:
            # (an additive bias that is common to a row moves no score: its gradient sums to zero, but is not zero)
            assert all(p.grad.abs().max() > 0 for p in net.parameters())
        optimiser.step()


def test_default_initialisation_at_depth_32_is_dead():
    """Reviewers asked whether the mask is context-aware at all: as torch initialises it, a deep one is not."""
    torch.manual_seed(0)
    net = ContextAwareMask(dim=256, num_keys=75, depth=32, init="default")
    mask = net(torch.randn(4, 75, 256)).dense()
    assert mask.std(dim=2).max() < 1e-7  # the same row for every token
    mask.square().sum().backward()
    assert net.hidden[0].weight.grad.abs().max() < 1e-8
    alive = ContextAwareMask(dim=256, num_keys=75, depth=32, init="kaiming")
    assert alive(torch.randn(4, 75, 256)).dense().std(dim=2).mean() > 0.1


@pytest.mark.parametrize("init", ["identity", "kaiming", "default", "xavier"])
def test_a_deep_residual_mask_neither_explodes_nor_dies(init):
    torch.manual_seed(0)
    net = ContextAwareMask(dim=64, num_keys=10, depth=32, residual=True, init=init)
    x = torch.randn(8, 10, 64)
    h = net(x).left
    assert torch.isfinite(h).all() and 0.5 < h.std() / x.std() < 1e3


def test_keys_cut_the_columns():
    net = ContextAwareMask(dim=4, num_keys=8, init="default")
    x = torch.randn(2, 5, 4)
    assert torch.equal(net(x, keys=torch.randn(2, 6, 3)).dense(), net(x).dense()[..., :6])
    with pytest.raises(ValueError, match="8 key columns and the sequence 9 keys.*interpolate.*content"):
        net(x, keys=torch.randn(2, 9, 3))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"num_keys": 0}, "num_keys must be at least 1"),
        ({"rank": 0}, "rank must be at least 1"),
        ({"init": "orthogonal"}, "unknown init 'orthogonal'; allowed: identity"),
        ({"length": "endless"}, "unknown length 'endless'"),
        ({"fusion": "addd"}, "unknown fusion 'addd'.*Did you mean 'add'"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ContextAwareMask(**{"dim": 4, "num_keys": 8, **options})


@pytest.mark.parametrize("fusion", list(Fusion), ids=str)
def test_neutral_values_leave_the_softmax_alone(fusion):
    score = torch.randn(4, 5, dtype=torch.float64)
    neutral = torch.full((4, 5), fusion.neutral, dtype=torch.float64)
    torch.testing.assert_close(fusion(score, neutral).softmax(-1), score.softmax(-1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FUSIONS)
def test_row_shifts_change_nothing_exactly_where_the_fusion_says_so(name):
    fusion = Fusion.parse(name)
    score, mask = torch.randn(4, 5), torch.randn(4, 5)
    same = torch.allclose(fusion(score, mask + 2.0).softmax(-1), fusion(score, mask).softmax(-1), atol=1e-6)
    assert same == fusion.ignores_row_shift
