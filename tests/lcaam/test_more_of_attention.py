"""Grouped queries, structural masks of any dimension, softcap, log-sum-exp, and precision below float32."""

import pytest
import torch
import torch.nn.functional as F

from lcaam import Mask, attention, explain
from lcaam.attention import watch
from lcaam.presets import sliding_window
from tests.lcaam.loop import inputs
from tests.lcaam.names import FUSIONS

BACKENDS = ["reference", "chunked"]
ALL = [
    (backend, fusion) for fusion in FUSIONS for backend in (*BACKENDS, *(["sdpa"] if fusion in ("add", "gate") else []))
]


# -- grouped queries ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("backend, fusion", ALL)
def test_grouped_queries_are_repeated_keys(backend, fusion, groups):
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 8, 5, 4), torch.randn(2, 2, 7, 4), torch.randn(2, 2, 7, 3)
    mask = Mask(torch.randn(2, 1, 5, 3), torch.randn(1, groups, 7, 3), torch.randn(1, 1, 1, 7))
    found = attention(q, k, v, mask, fusion=fusion, enable_gqa=True, backend=backend)
    of_heads = mask.map(lambda t: t.repeat_interleave(4, 1) if t.shape[1] == 2 else t)
    keys, values = k.repeat_interleave(4, 1), v.repeat_interleave(4, 1)
    expected = attention(q, keys, values, of_heads, fusion=fusion, backend="reference")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    plain = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    torch.testing.assert_close(attention(q, k, v, enable_gqa=True), plain)


def test_heads_that_do_not_fit_are_named():
    q, k = torch.randn(2, 8, 5, 4), torch.randn(2, 2, 7, 4)
    with pytest.raises(ValueError, match="need enable_gqa=True"):
        attention(q, k, k)
    with pytest.raises(ValueError, match="3 heads of key .* divide the 8 heads"):
        attention(q, torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4), enable_gqa=True)
    with pytest.raises(ValueError, match="2 heads of key and 4 of value"):
        attention(q, k, torch.randn(2, 4, 7, 4), enable_gqa=True)


# -- structural masks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_matrix_for_all_samples_and_one_per_sample(backend):
    q, k, v, *factors = inputs(4, 6)  # B = 2
    mask = Mask(*factors)
    matrix = torch.rand(4, 6) > 0.3
    whole = attention(q, k, v, mask, keep=matrix[None, None], backend=backend)
    assert torch.equal(attention(q, k, v, mask, keep=matrix, backend=backend), whole)
    each = torch.rand(2, 4, 6) > 0.3
    found = attention(q, k, v, mask, keep=each, backend=backend)
    assert torch.equal(found, attention(q, k, v, mask, keep=each[:, None], backend=backend))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("backend, fusion", ALL)
def test_a_window_is_the_keys_around_the_place_of_the_query(backend, fusion, causal):
    q, k, v, *factors = inputs(4, 6)
    mask, before, after = Mask(*factors), 2, 1
    keep = torch.tensor([[i + 2 - before <= j <= i + 2 + (0 if causal else after) for j in range(6)] for i in range(4)])
    how = dict(fusion=fusion, backend=backend)
    found = attention(q, k, v, mask, window=(before, after), causal=causal, **how)
    torch.testing.assert_close(found, attention(q, k, v, mask, keep=keep, **how), rtol=1e-6, atol=1e-6)
    wide = attention(q, k, v, mask, window=(6, 6), causal=causal, **how)
    assert torch.equal(wide, attention(q, k, v, mask, causal=causal, **how))


def test_who_watches_sees_the_window():
    q, k, v, *_ = inputs(4, 6)
    calls = []
    with watch(calls.append):
        attention(q, k, v, window=(2, 1))
    assert torch.equal(calls[0].keep, sliding_window(4, 6, before=2, after=1))


@pytest.mark.parametrize("window", [3, (1,), (-1, 2), (1.0, 2), (True, 1), (1, 2, 3)])
def test_a_window_that_is_none_is_named(window):
    q, k, v, *_ = inputs(4, 6)
    with pytest.raises(ValueError, match=r"window is \(before, after\), two whole numbers of at least 0"):
        attention(q, k, v, window=window)


@pytest.mark.parametrize("backend", [*BACKENDS, "sdpa"])
def test_a_bias_per_sample_beside_factors_that_all_samples_share(backend):
    torch.manual_seed(0)
    found = []
    q, k, v = (torch.randn(3, 2, 300, 4, dtype=torch.float64) for _ in range(3))
    factor, bias = torch.randn(1, 1, 300, 2, dtype=torch.float64), torch.randn(3, 1, 1, 300, dtype=torch.float64)
    for name in ("reference", backend):
        leaves = [t.clone().requires_grad_() for t in (q, factor, bias)]
        out = attention(leaves[0], k, v, Mask(leaves[1], factor, leaves[2]), fusion="add", backend=name)
        found.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for expected, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v: (q, k, v.half()), "of one floating point type, are float32, float32, float16"),
        (lambda q, k, v: (q.int(), k.int(), v.int()), "of one floating point type, are int32, int32, int32"),
        (lambda q, k, v: (q.to("meta"), k, v), "on one device, are on meta, cpu, cpu"),
    ],
)
def test_numbers_of_several_kinds_are_named_whatever_the_length(change, message):
    for n in (4, 400):
        q, k, v = torch.randn(3, 2, 2, n, 4).unbind(0)
        for mask in (None, Mask.from_dense(torch.ones(1, 1, n, n))):
            with pytest.raises(ValueError, match=message):
                attention(*change(q, k, v), mask)


def test_a_tensor_in_the_place_of_a_mask_is_named():
    q, k, v = torch.randn(3, 2, 2, 4, 4).unbind(0)
    with pytest.raises(ValueError, match=r"mask is a Tensor, not a Mask: a tensor of values is Mask.from_dense"):
        attention(q, k, v, torch.ones(1, 1, 4, 4))
    with pytest.raises(ValueError, match="keep must be a bool tensor .* got a list"):
        attention(q, k, v, keep=[True] * 4)


def test_a_square_that_could_be_either_is_asked_about():
    q = torch.randn(4, 2, 4, 8)
    with pytest.raises(ValueError, match=r"can be \(B, N_k\) or \(N_q, N_k\), since B = N_q = N_k = 4"):
        attention(q, q, q, keep=torch.ones(4, 4, dtype=torch.bool).tril())
    one = torch.randn(1, 2, 1, 8)
    keys = torch.randn(1, 2, 5, 8)
    assert attention(one, keys, keys, keep=torch.ones(1, 5, dtype=torch.bool)).shape == one.shape


def test_in_modules_two_dimensions_are_padding_whatever_the_batch():
    from lcaam import Encoder

    encoder = Encoder(16, 1, 4).eval()
    x, keep = torch.randn(4, 4, 16), torch.ones(4, 4, dtype=torch.bool).tril()
    torch.testing.assert_close(encoder(x, keep=keep), encoder(x, keep=keep[:, None, None, :]))


# -- softcap and log-sum-exp -------------------------------------------------------------------------------------------


def by_hand(q, k, v, mask, fusion, keep, softcap):
    from lcaam import Fusion

    score = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if softcap is not None:
        score = softcap * torch.tanh(score / softcap)
    score = Fusion.parse(fusion)(score, mask.dense()).masked_fill(~keep, -torch.inf)
    return score.softmax(-1) @ v, score.logsumexp(-1)


@pytest.mark.parametrize("softcap", [None, 0.7])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_softcap_and_lse_and_their_gradients_equal_the_equation(backend, fusion, softcap):
    found = []
    for ours in (True, False):
        leaves = inputs(4, 6)
        q, k, v, *factors = leaves
        keep = torch.ones(4, 6, dtype=torch.bool).tril(2)
        if ours:
            options = {"fusion": fusion, "causal": True, "softcap": softcap, "backend": backend}
            out, lse = attention(q, k, v, Mask(*factors), return_lse=True, **options)
        else:
            out, lse = by_hand(q, k, v, Mask(*factors), fusion, keep, softcap)
        (out.square().sum() + lse.sin().sum()).backward()
        found.append([out, lse, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_parts_of_the_keys_are_joined_by_their_lse(backend):
    q, k, v, left, right, bias = inputs(4, 6)
    whole = attention(q, k, v, Mask(left, right, bias), backend=backend)
    parts = []
    for part in (slice(0, 2), slice(2, 6)):
        mask = Mask(left, right[:, :, part], bias[..., part])
        parts.append(attention(q, k[:, :, part], v[:, :, part], mask, return_lse=True, backend=backend))
    share = torch.stack([lse for _, lse in parts]).softmax(0).unsqueeze(-1)
    torch.testing.assert_close(share[0] * parts[0][0] + share[1] * parts[1][0], whole)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_query_without_keys_has_an_lse_of_minus_infinity_and_finite_gradients(backend):
    leaves = inputs(3, 4)
    q, k, v, *factors = leaves
    keep = torch.tensor([[True] * 4, [False] * 4])
    out, lse = attention(q, k, v, Mask(*factors), keep=keep, return_lse=True, backend=backend)
    assert (lse[1] == -torch.inf).all() and lse[0].isfinite().all() and not out[1].any()
    (out.sum() + lse[0].sum()).backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


def test_what_sdpa_cannot_do_is_refused_and_auto_does_it():
    q, k, v, *factors = inputs(3, 4)
    for options, name in (({"softcap": 2.0}, "softcap"), ({"return_lse": True}, "return_lse")):
        with pytest.raises(ValueError, match=f"'sdpa' has no {name}"):
            attention(q, k, v, Mask(*factors), fusion="add", backend="sdpa", **options)
        attention(q, k, v, **options)
    with pytest.raises(ValueError, match="softcap is a finite number above 0"):
        attention(q, k, v, softcap=0.0)
    with pytest.raises(ValueError, match="softcap is a finite number above 0"):
        attention(q, k, v, softcap=float("inf"))


@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0)], ids=["no-sample", "no-query", "no-key"])
@pytest.mark.parametrize("backend, fusion", ALL)
def test_of_nothing_the_mask_gets_zero_gradients(backend, fusion, shape):
    b, h, n_q, n_k = shape
    leaves = inputs(n_q, n_k, b=b, h=h)
    q, k, v, *factors = leaves
    attention(q, k, v, Mask(*factors), fusion=fusion, backend=backend).sum().backward()
    assert all(leaf.grad is not None and not leaf.grad.any() for leaf in leaves)


# -- precision ---------------------------------------------------------------------------------------------------------


def relative(found, exact):
    return ((found.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("spread", [1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("backend, fusion", ALL)
def test_below_float32_errors_are_those_of_plain_attention(backend, fusion, dtype, spread):
    """Output at most 1.2 times, gradients at most twice the error of torch's own attention in the same precision."""
    torch.manual_seed(0)
    n, r = 64, 48
    q, k, v = torch.randn(3, 2, 4, n, 64)
    left, right = torch.randn(2, 1, n, r) * r**-0.5, torch.randn(1, 1, n, r) * 0.3
    low = [t.to(dtype) for t in (q * spread, k, v, left, right, torch.ones(1, 1, 1, n))]

    def outcome(tensors, masked):
        leaves = [t.clone().requires_grad_() for t in tensors]
        mask = Mask(*leaves[3:])
        if masked:
            out = attention(*leaves[:3], mask, fusion=fusion, backend=backend)
        else:
            out = F.scaled_dot_product_attention(*leaves[:3])
        torch.manual_seed(1)
        out.backward(torch.randn(out.shape).to(dtype).to(out.dtype))
        return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    errors = {}
    for masked in (True, False):
        found, exact = outcome(low, masked), outcome([t.double() for t in low], masked)
        errors[masked] = [relative(*pair) for pair in zip(found, exact, strict=True)]
    assert errors[True][0] <= 1.2 * errors[False][0]
    assert max(errors[True][1:]) <= 2 * max(errors[False][1:])


# -- sequences that are not padded -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
@pytest.mark.parametrize("options", [{}, {"enable_gqa": True}], ids=str)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused_with_the_way_out(layout, options):
    parts = [torch.randn(3, 2, 4), torch.randn(5, 2, 4)]  # (N, H, d)
    nested = torch.nested.nested_tensor(parts, layout=layout).transpose(1, 2)
    with pytest.raises(ValueError, match=r"takes no nested tensors: pad the sequences to \(B, H, N, d\).*keep="):
        attention(nested, nested, nested, Mask(torch.ones(1, 1, 5, 1), torch.ones(1, 1, 5, 1)), **options)
    with pytest.raises(ValueError, match="takes no nested tensors"):
        explain(nested, nested, nested)
    padded = torch.nested.to_padded_tensor(torch.nested.nested_tensor(parts), 0.0).transpose(1, 2)
    keep = torch.arange(5) < torch.tensor([[3], [5]])
    out = attention(padded, padded, padded, keep=keep)
    alone = [part.transpose(0, 1)[None] for part in parts]
    for row, part in zip(out, alone, strict=True):
        n = part.shape[2]
        torch.testing.assert_close(row[None, :, :n], attention(part, part, part), rtol=0, atol=1e-6)


def test_packed_sequences_are_refused_with_the_way_out():
    packed = torch.randn(8, 2, 4)  # (N of all, H, d), as variable-length kernels have it
    with pytest.raises(ValueError, match=r"packed into one are not supported: pad them, and give keep="):
        attention(packed, packed, packed)
