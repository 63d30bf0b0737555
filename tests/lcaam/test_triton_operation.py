"""Fused attention as an operation of torch: compiled, differentiated twice, and what it refuses."""

import pytest
import torch

from lcaam import Fusion, Mask, attention
from lcaam.backends.triton import refusal
from tests.lcaam.fused import DEVICE, leaves, skip_without_kernels

skip_without_kernels()


def test_it_is_an_operation_that_torch_understands():
    from lcaam.backends.triton.operation import fused_attention

    q, k, v, left, right, bias = (t.float().to(DEVICE).requires_grad_() for t in leaves(n_q=5, n_k=7))
    seed = torch.zeros((), dtype=torch.long)
    for tensors in ((q, k, v, left, right, bias, None), (q, k, v, None, None, None, None)):
        tests = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(fused_attention, (*tensors, seed, "mul", 0.25, None, 2, 0.0, None), test_utils=tests)


@pytest.mark.slow
def test_compiled_in_one_graph_it_is_the_same():
    tensors = [t.float().to(DEVICE).requires_grad_() for t in leaves(n_q=17, n_k=17)]

    def run(*inputs):
        return attention(*inputs[:3], Mask(*inputs[3:]), fusion="mul", backend="triton")

    results = []
    for function in (run, torch.compile(run, fullgraph=True)):
        out = function(*tensors)
        results.append([out, *torch.autograd.grad(out.square().sum(), tensors)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("window", [None, (2, 1)])
def test_second_derivatives_are_those_of_the_equation(window):
    found = []
    for backend in ("triton", "reference"):
        inputs = [t.float().to(DEVICE).requires_grad_() for t in leaves(h=4, n_q=5, n_k=7, repeat=2)]
        how = dict(fusion="mul", window=window, enable_gqa=True, backend=backend)
        out = attention(*inputs[:3], Mask(*inputs[3:]), **how)
        slope = torch.autograd.grad(out.square().sum(), inputs, create_graph=True)
        found.append(torch.autograd.grad(sum(t.square().sum() for t in slope), inputs))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_what_it_cannot_do_is_refused_by_name():
    tensors = [t.float().to(DEVICE) for t in leaves()]
    q, k, v, mask = *tensors[:3], Mask(*tensors[3:])
    wide = torch.zeros(1, 1, 3, 300, device=DEVICE)
    cases = [
        ((q.double(), k.double(), v.double()), {}, "must all be float16, bfloat16 or float32, are float64"),
        ((q, k.half(), v), {}, "of one floating point type, are float32, float16, float32"),
        ((wide, wide, wide), {}, "heads are at most 256 wide, are 300 and 300"),
        ((q, k, v), {"dropout": 1.0}, "dropout=1 drops every weight"),
    ]
    for inputs, options, why in cases:
        with pytest.raises(ValueError, match=why):
            attention(*inputs, mask if inputs[0].shape == q.shape else None, backend="triton", **options)

    def run(q):
        return attention(q[None], k[:1], v[:1], Mask(tensors[3][:1], tensors[4]), backend="triton")

    with pytest.raises(ValueError, match="a transform, a trace or a tensor subclass is active"):
        torch.func.vmap(run)(q)
    meta = [t.to("meta") for t in (q, k, v)]
    assert refusal(*meta, None, Fusion.parse("mul")) == "its kernels run on CUDA devices, the tensors are on meta"


def test_nothing_to_do_is_not_an_error():
    q, k, v, left, right, bias = (t.float().to(DEVICE) for t in leaves())
    out = attention(q, k[:, :, :0], v[:, :, :0], Mask(left, right, bias), fusion="mul", backend="triton")
    assert torch.equal(out, torch.zeros_like(out))
