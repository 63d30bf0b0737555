"""StaticMask as published, and why it does not learn."""

import pytest
import torch

from lcaam import LayerMasks, StaticMask, attention
from tests.lcaam.loop import EXACT, attention_loop


def test_the_published_form_is_the_published_formula():
    net = StaticMask(5, 5, fusion="add")
    weights = net.table.sigmoid().masked_fill(torch.eye(5, dtype=torch.bool), 1.0)
    expected = (1 - weights) * -1e4
    torch.testing.assert_close(net(torch.zeros(2, 5, 3)).dense()[0, 0], expected)


def test_both_forms_weigh_attention_by_the_same_table():
    """exp(log sigmoid t) = sigmoid t; the published bias is something else."""
    torch.manual_seed(0)
    net = StaticMask(6, 6, fusion="gate")
    q, k, v = torch.randn(3, 1, 2, 6, 4, dtype=torch.float64).unbind(0)
    out = attention(q, k, v, net(torch.zeros(1, 6, 1)), fusion="gate", backend="reference")
    weights = (q @ k.transpose(-2, -1) / 2).softmax(-1) * net.table.sigmoid().fill_diagonal_(1.0).double()
    expected = (weights / weights.sum(-1, keepdim=True)) @ v
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fusion", StaticMask.fusions)
def test_outside_its_region_it_changes_nothing(fusion):
    net = StaticMask(7, 9, rows=(1, 4), columns=(2, 5), fusion=fusion)
    q, k, v = torch.randn(1, 2, 7, 4), torch.randn(1, 2, 9, 4), torch.randn(1, 2, 9, 4)
    mask = net(torch.zeros(1, 7, 1))
    out = attention(q, k, v, mask, fusion=fusion, backend="reference")
    plain = attention(q, k, v, backend="reference")
    torch.testing.assert_close(out[:, :, [0, 4, 5, 6]], plain[:, :, [0, 4, 5, 6]], rtol=0, atol=1e-6)
    assert (out[:, :, 1:4] - plain[:, :, 1:4]).abs().max() > 1e-3
    own = mask.dense()[0, 0, [1, 2, 3], [2, 3, 4]]
    assert torch.equal(own, torch.full_like(own, 0.0 if fusion == "add" else 40.0)), "a token's weight on itself is 1"


@pytest.mark.parametrize("fusion", StaticMask.fusions)
@pytest.mark.parametrize("backend", EXACT)
def test_every_backend_computes_it(fusion, backend):
    net = StaticMask(4, 4, fusion=fusion).double()
    net.table.data.add_(8.0)  # open enough to see something
    q, k, v = torch.randn(3, 1, 2, 4, 3, dtype=torch.float64).unbind(0)
    mask = net(torch.zeros(1, 4, 1))
    out = attention(q, k, v, mask, fusion=fusion, backend=backend)
    torch.testing.assert_close(out, attention_loop(q, k, v, mask.dense(), fusion), rtol=0, atol=1e-10)


def table_gradient(fusion: str) -> torch.Tensor:
    """The gradient on SwinBERT's table of a random linear function of the output, in place of the caption loss."""
    torch.manual_seed(0)
    net = StaticMask(784, 784, fusion=fusion)
    q, k, v = torch.randn(3, 1, 1, 784, 64).unbind(0)
    out = attention(q, k, v, net(torch.zeros(1, 784, 1)), fusion=fusion, backend="reference")
    (out * torch.randn_like(out)).sum().backward()
    return net.table.grad


def test_the_published_form_is_dead_at_initialisation_and_log_sigmoid_is_alive():
    """At most 10 of 784 x 784 = 614,656 entries get a gradient in the published form, nearly all in the other."""
    dead, alive = table_gradient("add"), table_gradient("gate")
    assert dead.numel() == 614_656
    assert (dead != 0).sum() <= 10
    assert dead.abs().max() < 1e-30
    assert (alive != 0).sum() >= 614_656 - 784  # all but the fixed diagonal


def test_the_published_form_starts_as_every_token_seeing_itself_only():
    torch.manual_seed(0)
    net = StaticMask(784, 784)
    assert net(torch.zeros(1, 784, 1)).dense().masked_fill(torch.eye(784, dtype=torch.bool), -1e4).max() < -50
    v = torch.randn(1, 1, 784, 4)
    out = attention(torch.randn(1, 1, 784, 8), torch.randn(1, 1, 784, 8), v, net(torch.zeros(1, 784, 1)), fusion="add")
    assert torch.equal(out, v)


def test_sparsity_loss_is_the_published_mean():
    square, wide = StaticMask(4, 4), StaticMask(4, 6)
    weights = square.table.sigmoid().fill_diagonal_(0.0)
    torch.testing.assert_close(square.sparsity_loss(), weights.sum() / 16)
    torch.testing.assert_close(wide.sparsity_loss(), wide.table.sigmoid().mean())
    masks = LayerMasks("per_layer", 3, kind="static", num_queries=4, num_keys=4)
    torch.testing.assert_close(masks.sparsity_loss(), sum(net.sparsity_loss() for net in masks.nets))
    assert LayerMasks("none", 3).sparsity_loss() == 0
    assert LayerMasks("shared", 3, dim=4, num_keys=4).sparsity_loss() == 0


def test_the_hard_form_is_zero_or_one():
    net = StaticMask(5, 5, hard=True)
    values = net(torch.zeros(1, 5, 1)).dense()[0, 0]
    expected = torch.where((net.table >= 0) | torch.eye(5, dtype=torch.bool), 0.0, -1e4)
    torch.testing.assert_close(values, expected)


def test_a_shorter_sequence_keeps_its_upper_left_part():
    net = StaticMask(8, 8, rows=(0, 5), columns=(0, 5))
    whole, short = net(torch.zeros(1, 8, 1)).dense(), net(torch.zeros(1, 6, 1), keys=torch.zeros(1, 6, 1)).dense()
    assert torch.equal(short, whole[..., :6, :6])
    with pytest.raises(ValueError, match="does not fit 4 queries"):
        net(torch.zeros(1, 4, 1))


def test_a_region_that_ends_with_the_matrix_is_cut_with_it():
    net = StaticMask(6, 4)
    short = net(torch.zeros(1, 5, 1), keys=torch.zeros(1, 3, 1)).dense()
    assert torch.equal(short, net(torch.zeros(1, 6, 1)).dense()[..., :5, :3])


def test_bad_options_are_named():
    with pytest.raises(ValueError, match=r"fusion 'mul' has no static form; allowed: add \(published\), gate"):
        StaticMask(4, 4, fusion="mul")
    with pytest.raises(ValueError, match="rows .2, 9. are not a region of a matrix with 8 rows"):
        StaticMask(8, 8, rows=(2, 9))
    with pytest.raises(ValueError, match="unknown kind 'statik'; allowed: context, static, "):
        LayerMasks("shared", 2, kind="statik")
