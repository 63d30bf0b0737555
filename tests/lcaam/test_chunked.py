"""The chunked backend against the equation, with blocks of every size."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lcaam import Fusion, Mask, attention
from lcaam.backends import blocks
from tests.lcaam.loop import gradients, inputs, padding

FUSIONS = [fusion.name for fusion in Fusion]


@pytest.fixture
def tiny_blocks(monkeypatch):
    """Blocks so small that every loop of the chunked backend runs many times, and no size divides another."""
    monkeypatch.setattr(blocks, "CACHE", 14)
    monkeypatch.setattr(blocks, "FEWEST_ROWS", 2)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fusion=st.sampled_from(FUSIONS),
    kind=st.sampled_from(["one", "heads", "batch", "dense", "dense-heads", "no-bias", "none"]),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 17), st.integers(1, 17)),
    rank=st.integers(1, 4),
    keep_shape=st.sampled_from([None, "keys", "batch", "heads", "all"]),
    causal=st.booleans(),
    cache=st.integers(1, 400),
)
def test_chunked_equals_reference(tiny_blocks, fusion, kind, sizes, rank, keep_shape, causal, cache):
    blocks.CACHE = cache  # (restored by the fixture)
    b, h, n_q, n_k = sizes
    leaves = inputs(n_q, n_k, groups=h, rank=rank, b=b, h=h, seed=cache)
    q, k, v, left, right, bias = leaves
    mask = {
        "one": Mask(left, right[:, :1], bias[:, :1]),
        "heads": Mask(left, right, bias),
        "batch": Mask(left[:1], right[:, :1].expand(b, -1, -1, -1), bias[:, :1]),
        "dense": Mask.from_dense(left @ right[:, :1].transpose(-2, -1)),
        "dense-heads": Mask.from_dense((left @ right.transpose(-2, -1))[:1]),
        "no-bias": Mask(left, right),
        "none": None,
    }[kind]
    shape = {"keys": (1, 1, 1, n_k), "batch": (b, 1, 1, n_k), "heads": (1, h, n_q, 1), "all": (b, h, n_q, n_k)}
    generator = torch.Generator().manual_seed(cache)
    keep = None if keep_shape is None else torch.rand(shape[keep_shape], generator=generator) < 0.6
    options = dict(fusion=fusion, keep=keep, causal=causal)
    expected = attention(q, k, v, mask, backend="reference", **options)
    out = attention(q, k, v, mask, backend="chunked", **options)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)
    for ours, theirs in zip(gradients(out, leaves), gradients(expected, leaves), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("n", [1, 2, 7, 17, 65, 127])
def test_chunked_equals_reference_at_awkward_lengths(fusion, n):
    leaves = inputs(n, n)
    q, k, v, left, right, bias = leaves
    for causal in (False, True):
        keep = padding(2, n)[:, None, None, :]
        outs = [
            attention(q, k, v, Mask(left, right, bias), fusion=fusion, causal=causal, keep=keep, backend=backend)
            for backend in ("chunked", "reference")
        ]
        torch.testing.assert_close(*outs, rtol=0, atol=1e-10)
        for ours, theirs in zip(*(gradients(out, leaves) for out in outs), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_chunked_dropout_is_the_same_in_forward_and_backward(tiny_blocks):
    """With one pattern of dropped weights the output is a plain function, so its derivative must be the gradient."""
    leaves = inputs(7, 9)
    q, k, v, left, right, bias = leaves

    def run(*tensors):
        torch.manual_seed(3)
        q, k, v, left, right, bias = tensors
        return attention(q, k, v, Mask(left, right, bias), dropout=0.4, backend="chunked")

    assert torch.equal(run(*leaves), run(*leaves))
    assert not torch.equal(run(*leaves), attention(q, k, v, Mask(left, right, bias), backend="chunked"))
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)


def test_chunked_keeps_half_precision_outside_and_float32_inside():
    leaves = inputs(33, 33, dtype=torch.bfloat16)
    q, k, v, left, right, bias = leaves
    out = attention(q, k, v, Mask(left, right, bias), backend="chunked")
    exact = attention(*(t.double() for t in (q, k, v)), Mask(left.double(), right.double(), bias.double()))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), exact, rtol=1e-2, atol=1e-2)
    out.sum().backward()
    assert all(leaf.grad.dtype == torch.bfloat16 for leaf in leaves)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_autocast_rounds_what_comes_in_and_nothing_inside(fusion):
    leaves = inputs(40, 40, dtype=torch.float32)
    q, k, v, left, right, bias = leaves
    mask = Mask(left, right, bias)
    plain = attention(*(t.bfloat16() for t in (q, k, v)), mask, fusion=fusion, backend="chunked")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = attention(q, k, v, mask, fusion=fusion, backend="chunked")
    assert torch.equal(plain, cast)
    for ours, theirs in zip(gradients(cast, leaves), gradients(plain, leaves), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_shapes_alone_go_through_blocks_on_the_meta_device(fusion):
    leaves = [leaf.detach().to("meta").requires_grad_() for leaf in inputs(40, 40)]
    q, k, v, left, right, bias = leaves
    out = attention(q, k, v, Mask(left, right, bias), fusion=fusion, causal=True, backend="chunked")
    out.sum().backward()
    assert out.shape == v.shape and q.grad.shape == q.shape
