"""The fused kernels against the equation in float64: on a CPU in Triton's interpreter, on a GPU compiled.

TRITON_INTERPRET=0 python -m pytest tests/lcaam/test_triton.py -m ""     # on a GPU, everything
"""

from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lcaam import Fusion, Mask, attention
from lcaam.fusion import FUSIONS, register
from tests.lcaam.fused import DEVICE, FUSED, check, kept, leaves, outcome, skip_without_kernels

skip_without_kernels()
from lcaam.backends.triton import launching  # noqa: E402  # needs the package

CASES = {  # what the kernels branch on, each at least once
    "one mask": dict(),
    "a mask per head": dict(groups=2),
    "without bias": dict(kind="no bias", of="one"),
    "dense": dict(kind="dense"),
    "dense for all samples and each head": dict(kind="dense", of="one", groups=2),
    "padding": dict(keep="padding"),
    "a matrix per head, causal": dict(keep="heads", causal=True),
    "cross-attention, causal": dict(n_q=37, n_k=50, causal=True, keep="pairs"),
    "more queries than keys, causal": dict(n_q=50, n_k=17, causal=True),
    "one query": dict(n_q=1, n_k=50),
    "one key": dict(n_q=17, n_k=1),
    "odd widths": dict(d=24, d_v=20, rank=33),
    "a window": dict(n_q=70, n_k=90, window=(20, 6)),
    "a window, causal, padding, grouped": dict(
        h=4, repeat=2, n_q=90, n_k=70, window=(9, 0), causal=True, keep="padding"
    ),
    "a window, dense for all samples": dict(n_q=70, n_k=70, window=(3, 40), kind="dense", of="one"),
    "grouped, a mask per head": dict(h=4, repeat=4, groups=4, kind="no bias"),
    "grouped, dense": dict(h=4, repeat=2, kind="dense"),
    "softcap": dict(softcap=2.0),
    "softcap, dense, a scale": dict(softcap=2.0, kind="dense", of="one", scale=0.3, keep="padding"),
}


# fusions in turn; the slow tier has all pairs
TURNS = [*zip(CASES, 5 * FUSED, strict=False), *(("padding", fusion) for fusion in FUSED)]


@pytest.mark.parametrize("name, fusion", TURNS)
def test_values_and_gradients_equal_the_equation(name, fusion):
    sizes, options = split(CASES[name])
    check(leaves(**sizes), fusion, **options)


def split(case):
    """The sizes of the tensors, and the options of the call."""
    options = {key: value for key, value in case.items() if key in ("causal", "softcap", "scale", "window")}
    sizes = {key: value for key, value in case.items() if key not in (*options, "keep")}
    whole = dict(b=2, h=2, n_q=17, n_k=17) | sizes
    options["keep"] = kept(case.get("keep"), *(whole[key] for key in ("b", "h", "n_q", "n_k")))
    return sizes, options


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fusion", FUSED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_all_pairs_of_cases_fusions_and_precisions(name, fusion, dtype):
    sizes, options = split(CASES[name])
    check(leaves(**sizes), fusion, dtype, **options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fusion", ["add", "mul"])
def test_half_precision_is_as_exact_as_its_numbers(dtype, fusion):
    check([t.to(dtype).double() for t in leaves(n_q=37, n_k=50)], fusion, dtype)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    fusion=st.sampled_from(FUSED),
    kind=st.sampled_from(["factors", "no bias", "dense"]),
    of=st.sampled_from(["batch", "one"]),
    groups=st.sampled_from([1, "heads"]),
    lengths=st.tuples(*[st.sampled_from([1, 17, 50, 127, 197])] * 2),
    widths=st.tuples(*[st.sampled_from([8, 16, 20, 64, 96])] * 2),
    rank=st.sampled_from([1, 7, 16, 64, 130]),
    heads=st.integers(1, 3),
    structure=st.sampled_from([None, "padding", "pairs", "heads"]),
    causal=st.booleans(),
    window=st.none() | st.tuples(*[st.sampled_from([0, 3, 31, 64, 150])] * 2),
    repeat=st.booleans(),
)
def test_any_sizes(fusion, kind, of, groups, lengths, widths, rank, heads, structure, causal, window, repeat):
    n_q, n_k = lengths
    sizes = dict(b=2, h=heads, n_q=n_q, n_k=n_k, d=widths[0], d_v=widths[1], rank=rank, kind=kind, of=of)
    tensors = leaves(**sizes, groups=heads if groups == "heads" else 1, repeat=heads if repeat else 1)
    check(tensors, fusion, keep=kept(structure, 2, heads, n_q, n_k), causal=causal, window=window)


@pytest.mark.parametrize("fusion", ["add", "mul"])
def test_a_factor_wider_than_the_kernels_is_multiplied_out(fusion):
    check(leaves(n_q=17, n_k=20, rank=300), fusion)


def test_backward_twice_gives_the_same_bits():
    tensors = leaves(h=4, n_q=34, n_k=37)
    first, second = (outcome(tensors, "triton", "mul", torch.float32) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.fixture
def any_order(monkeypatch):
    """Atomics are asked for, and whatever ran before has not forbidden them."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    monkeypatch.setenv("LCAAM_ATOMICS", "1")
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@pytest.mark.parametrize("name", ["one mask", "a mask per head", "padding", "softcap", "grouped, dense", "a window"])
def test_with_atomics_it_is_the_same_up_to_rounding(name, any_order):
    sizes, options = split(CASES[name])
    with ran() as kernels:
        check(leaves(**sizes), "mul", **options)
    assert "atomic" in kernels and not {"rows", "columns"} & set(kernels)


def test_what_has_to_be_deterministic_uses_no_atomics(any_order):
    torch.use_deterministic_algorithms(True)
    with ran() as kernels:
        outcome(leaves(), "triton", "mul", torch.float32)
    assert kernels == ["forward", "delta", "rows", "columns"]


@contextmanager
def ran():
    """The names of the kernels that are launched."""
    names, launch = [], launching.Call.launch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            launching.Call, "launch", lambda self, name, *a, **k: names.append(name) or launch(self, name, *a, **k)
        )
        yield names


def test_a_mask_that_does_not_learn_costs_no_gradient_of_it():
    q, k, v, left, right, bias = (t.float().to(DEVICE) for t in leaves())
    q.requires_grad_()
    out = attention(q, k, v, Mask(left, right, bias), fusion="mul", backend="triton")
    (found,) = torch.autograd.grad(out.sum(), q)
    expected = attention(q, k, v, Mask(left, right, bias), fusion="mul", backend="reference")
    torch.testing.assert_close(found, torch.autograd.grad(expected.sum(), q)[0], rtol=1e-3, atol=1e-4)


def test_no_mask_is_plain_attention():
    q, k, v, *_ = (t.float().to(DEVICE) for t in leaves(n_q=37, n_k=50))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(attention(q, k, v, backend="triton"), expected, rtol=0, atol=1e-5)


# -- fusions of a user ------------------------------------------------------------------------------------------------


@pytest.fixture
def sixth():
    """A fusion that is registered at run time."""
    fusion = register(Fusion("bound", "s + tanh(m)", torch.tanh, lambda m: 1 - m.tanh() ** 2))
    yield fusion.name
    del FUSIONS[fusion.name]


def test_a_fusion_that_is_registered_at_run_time_is_fused(sixth):
    check(leaves(), sixth)
    check(leaves(kind="dense", of="one"), sixth, causal=True)


@pytest.mark.parametrize(
    "term, why",
    [
        (torch.special.i0, "special_i0.*has no form in Triton"),
        (lambda m: m if m.sum() > 0 else -m, "cannot be traced"),
        (lambda m: 3.0, "returns 3.0, not a function of the mask value"),
    ],
)
def test_a_fusion_without_a_form_is_refused_by_name(term, why):
    fusion = Fusion("odd", "?", term)
    q, k, v, left, right, bias = (t.float().to(DEVICE) for t in leaves())
    with pytest.raises(ValueError, match=rf"backend 'triton' cannot compute this: fusion odd term: .*{why}"):
        attention(q, k, v, Mask(left, right, bias), fusion=fusion, backend="triton")


# -- dropout ----------------------------------------------------------------------------------------------------------


def dropped_weights(seed, tensors, p):
    """The attention weights after dropout, by values that are the unit vectors; and the output's function of inputs."""
    torch.manual_seed(seed)
    q, k, _, left, right, bias = (t.float().to(DEVICE) for t in tensors)
    unit = torch.eye(k.shape[2], device=DEVICE).expand(*k.shape[:2], -1, -1)
    return attention(q, k, unit, Mask(left, right, bias), fusion="mul", dropout=p, backend="triton")


def test_dropout_drops_its_share_and_keeps_the_mean():
    tensors, p = leaves(n_q=60, n_k=60), 0.3
    plain = dropped_weights(0, tensors, 0.0)
    one, again, other = (dropped_weights(seed, tensors, p) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    gone = one == 0
    assert abs(gone.float().mean() - p) < 0.02
    assert abs((gone[0, 0] & gone[1, 1]).float().mean() - p * p) < 0.03, "samples and heads have patterns of their own"
    torch.testing.assert_close(one[~gone], plain[~gone] / (1 - p), rtol=1e-5, atol=1e-6)


def test_gradients_with_dropout_are_those_of_the_same_pattern():
    tensors, p = leaves(n_q=17, n_k=17), 0.4
    pattern = (dropped_weights(5, tensors, p) != 0).double().cpu() / (1 - p)
    exact = [t.clone().requires_grad_() for t in tensors]
    q, k, v, left, right, bias = exact
    score = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 * (left @ right.transpose(-2, -1) + bias)
    expected = torch.autograd.grad(((score.softmax(-1) * pattern) @ v).square().sum(), exact)
    ours = [t.float().to(DEVICE).requires_grad_() for t in tensors]
    torch.manual_seed(5)
    out = attention(*ours[:3], Mask(*ours[3:]), fusion="mul", dropout=p, backend="triton")
    for found, other in zip(torch.autograd.grad(out.square().sum(), ours), expected, strict=True):
        torch.testing.assert_close(found.cpu().double(), other, rtol=1e-3, atol=1e-4)
