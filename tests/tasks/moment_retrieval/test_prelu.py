"""PReLU with a fast backward pass against torch's own."""

import pytest
import torch
from torch import nn

from tasks.moment_retrieval.prelu import PReLU


@pytest.mark.parametrize("slope", [0.25, 0.0, -0.5, 1.0, 3.0])
@pytest.mark.parametrize("shape", [(1,), (7, 5), (2, 0, 3), (3, 4, 17)])
def test_values_and_gradients_are_torch_s(slope, shape):
    torch.manual_seed(0)
    x, grad = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    if x.numel():
        x.view(-1)[0] = 0.0
    found = []
    for layer in (PReLU(), nn.PReLU()):
        layer.double()
        nn.init.constant_(layer.weight, slope)
        leaf = x.clone().requires_grad_()
        out = layer(leaf)
        out.backward(grad)
        found.append((out, leaf.grad, layer.weight.grad))
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-12, atol=0)


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    layer = PReLU().double()
    assert torch.autograd.gradcheck(layer, torch.randn(4, 6, dtype=torch.float64).requires_grad_())


def test_in_bfloat16_the_slope_s_gradient_is_summed_in_float32():
    torch.manual_seed(0)
    x = torch.randn(200, 300).bfloat16().requires_grad_()
    layer = PReLU()
    layer(x).float().sum().backward()
    expected = x.detach().double().clamp(max=0).sum()
    assert layer.weight.grad.dtype == torch.float32
    assert layer.weight.grad.item() == pytest.approx(expected.item(), rel=1e-4)


def test_several_slopes_and_compiled_are_torch_s_own():
    several = PReLU(3)
    several(torch.randn(2, 3)).sum().backward()
    assert several.weight.grad.shape == (3,)
    x, layer = torch.randn(5, 7), PReLU()
    assert torch.equal(torch.compile(layer, backend="eager", fullgraph=True)(x), nn.PReLU()(x))


def test_the_state_dict_is_torch_s():
    PReLU().load_state_dict(nn.PReLU().state_dict())
