"""Every backend computes the same function as a plain loop."""

import pytest
import torch

from lcaam import Fusion, Mask, attention
from tests.lcaam.loop import EXACT, attention_loop, gradients, inputs, padding

FUSIONS = [fusion.name for fusion in Fusion]
SDPA_FUSIONS = [fusion.name for fusion in Fusion if not fusion.multiplies]
PAIRS = [(backend, fusion) for backend in EXACT for fusion in FUSIONS if backend != "sdpa" or fusion in SDPA_FUSIONS]


@pytest.mark.parametrize("sizes", [(1, 1), (5, 5), (2, 7), (7, 2)], ids=["one", "self", "cross", "cross-tall"])
@pytest.mark.parametrize("structure", ["none", "padding", "causal", "both"])
@pytest.mark.parametrize("backend, fusion", PAIRS)
def test_values_and_gradients_equal_the_loop(backend, fusion, structure, sizes):
    n_q, n_k = sizes
    keep = padding(2, n_k) if structure in ("padding", "both") else None
    causal = structure in ("causal", "both")

    exact = inputs(n_q, n_k)
    q, k, v, left, right, bias = exact
    expected = attention_loop(q, k, v, Mask(left, right, bias).dense(), fusion, keep, causal)
    expected_grads = gradients(expected, exact)

    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        leaves = inputs(n_q, n_k, dtype=dtype)
        q, k, v, left, right, bias = leaves
        out = attention(q, k, v, Mask(left, right, bias), fusion=fusion, keep=keep, causal=causal, backend=backend)
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), expected, rtol=0, atol=tolerance)
        for ours, theirs in zip(gradients(out, leaves), expected_grads, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["groups", "group-of-one-batch", "no-bias", "dense", "dense-groups"])
@pytest.mark.parametrize("backend, fusion", PAIRS)
def test_every_kind_of_mask_equals_the_loop(backend, fusion, kind):
    q, k, v, left, right, bias = inputs(4, 6, groups=2)
    mask = {
        "groups": Mask(left, right, bias),
        "group-of-one-batch": Mask(left[:1], right[:, :1], bias[:, :1]),
        "no-bias": Mask(left, right[:, :1]),
        "dense": Mask.from_dense((left @ right.transpose(-2, -1))[:, :1]),
        "dense-groups": Mask.from_dense(left @ right.transpose(-2, -1)),
    }[kind]
    expected = attention_loop(q, k, v, mask.dense().expand(2, -1, -1, -1), fusion)
    out = attention(q, k, v, mask, fusion=fusion, backend=backend)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend, fusion", PAIRS)
def test_a_query_without_keys_returns_zeros_and_finite_gradients(backend, fusion):
    leaves = inputs(3, 4)
    q, k, v, left, right, bias = leaves
    keep = torch.zeros(2, 4, dtype=torch.bool)
    out = attention(q, k, v, Mask(left, right, bias), fusion=fusion, keep=keep, backend=backend)
    assert torch.equal(out, torch.zeros_like(out))
    assert all(torch.isfinite(g).all() for g in gradients(out, leaves))


@pytest.mark.parametrize("backend", EXACT)
def test_fusion_none_is_bitwise_attention_without_a_mask(backend):
    q, k, v, left, right, bias = inputs(5, 5, dtype=torch.float32)
    plain = attention(q, k, v, None, backend=backend)
    assert torch.equal(attention(q, k, v, Mask(left, right, bias), fusion="none", backend=backend), plain)
    for fusion in FUSIONS:
        assert torch.equal(attention(q, k, v, None, fusion=fusion, backend=backend), plain)


def test_no_mask_equals_torch():
    q, k, v, *_ = inputs(5, 7, dtype=torch.float32)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    assert torch.equal(attention(q, k, v), expected)
    torch.testing.assert_close(attention(q, k, v, backend="reference"), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("n_q", [1, 3, 7])
def test_causal_decoding_from_a_cache_is_the_same_function(fusion, n_q):
    """The last n_q queries alone, over all keys, give the last n_q rows of the whole sequence."""
    q, k, v, left, right, bias = inputs(7, 7)
    whole = attention(q, k, v, Mask(left, right, bias), fusion=fusion, causal=True)
    last = attention(q[:, :, -n_q:], k, v, Mask(left[:, :, -n_q:], right, bias), fusion=fusion, causal=True)
    torch.testing.assert_close(last, whole[:, :, -n_q:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend, fusion", PAIRS)
def test_a_wider_factored_mask_uses_its_first_columns(backend, fusion):
    q, k, v, left, right, bias = inputs(4, 9)
    short = attention(q, k[:, :, :4], v[:, :, :4], Mask(left, right, bias), fusion=fusion, backend=backend)
    keep = torch.arange(9).expand(2, 9) < 4
    padded = attention(q, k, v, Mask(left, right, bias), fusion=fusion, keep=keep, backend=backend)
    torch.testing.assert_close(short, padded, rtol=0, atol=1e-12)


def test_half_precision_softmax_runs_in_float32():
    q, k, v, left, right, bias = inputs(5, 5, dtype=torch.bfloat16)
    from lcaam.attention import Call

    weights = Call(q, k, Mask(left, right, bias), Fusion.mul, None, 0.5).weights()
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 5), rtol=0, atol=1e-6)
    assert attention(q, k, v, Mask(left, right, bias)).dtype == torch.bfloat16


def test_dropout_drops_and_rescales_weights():
    q, k, v, *_ = inputs(5, 5)
    torch.manual_seed(0)
    outs = torch.stack([attention(q, k, v, dropout=0.5, backend="reference").detach() for _ in range(4000)])
    assert not torch.equal(outs[0], outs[1])
    torch.testing.assert_close(outs.mean(0), attention(q, k, v).detach(), rtol=0, atol=0.1)


@pytest.mark.parametrize("fusion", ["mul", "temper"])
def test_sdpa_refuses_what_it_cannot_do_and_names_the_alternatives(fusion):
    q, k, v, left, right, bias = inputs(2, 2)
    with pytest.raises(ValueError, match=f"'sdpa' cannot compute fusion '{fusion}'.*'reference'.*'auto'"):
        attention(q, k, v, Mask(left, right, bias), fusion=fusion, backend="sdpa")


BAD_CALLS = {
    "fusion": (dict(fusion="mull"), "unknown fusion 'mull'.*Did you mean 'mul'"),
    "backend": (dict(backend="referense"), "unknown backend 'referense'.*Did you mean 'reference'"),
    "keep dtype": (dict(keep=torch.ones(2, 6)), "keep must be bool"),
    "keep shape": (dict(keep=torch.ones(2, 5, dtype=torch.bool)), r"keep must be \(B, N_k\) = \(2, 6\)"),
    "keep 3-d": (dict(keep=torch.ones(2, 5, 6, dtype=torch.bool)), r"\(B, N_q, N_k\) = \(2, 4, 6\), or 4-dimensional"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_arguments_name_what_was_given_and_what_is_allowed(name):
    options, message = BAD_CALLS[name]
    q, k, v, left, right, bias = inputs(4, 6)
    with pytest.raises(ValueError, match=message):
        attention(q, k, v, Mask(left, right, bias), **options)


def test_bad_shapes_are_named():
    q, k, v, left, right, bias = inputs(4, 6)
    with pytest.raises(ValueError, match=r"do not fit: query \(2, 2, 4, 3\), key \(2, 2, 6, 3\), value \(2, 2, 5, 5\)"):
        attention(q, k, v[:, :, :5])
    with pytest.raises(ValueError, match="6 key columns and the sequence 8 keys.*interpolate.*content"):
        attention(q, k.repeat(1, 1, 2, 1)[:, :, :8], v.repeat(1, 1, 2, 1)[:, :, :8], Mask(left, right, bias))
    with pytest.raises(ValueError, match="dense mask of 7 key columns does not fit a sequence of 6"):
        attention(q, k, v, Mask.from_dense(torch.zeros(1, 1, 4, 7)))
    with pytest.raises(ValueError, match="3 groups"):
        attention(q, k, v, Mask(left, right.repeat(1, 3, 1, 1)))
    with pytest.raises(ValueError, match="rank"):
        Mask(left, right[..., :2])


@pytest.mark.parametrize("backend, fusion", PAIRS)
@pytest.mark.parametrize("shape", [(0, 2, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0)], ids=["no-sample", "no-query", "no-key"])
def test_nothing_to_do_is_not_an_error(backend, fusion, shape):
    b, h, n_q, n_k = shape
    q, k, v, left, right, bias = inputs(n_q, n_k, b=b, h=h)
    out = attention(q, k, v, Mask(left, right, bias), fusion=fusion, backend=backend)
    assert torch.equal(out, torch.zeros(b, h, n_q, 5, dtype=torch.float64))


@pytest.mark.parametrize("backend", EXACT)
def test_dropout_is_a_probability(backend):
    q, k, v, *_ = inputs(3, 3)
    assert torch.equal(attention(q, k, v, dropout=1.0, backend=backend), torch.zeros_like(v))
    for wrong in (-0.5, 1.5):
        with pytest.raises(ValueError, match=r"probability in \[0, 1\]"):
            attention(q, k, v, dropout=wrong, backend=backend)


def choice(fusion, device, length, batch=1):
    from lcaam.choice import cheapest

    q = torch.empty(batch, 8, length, 64, device=device, requires_grad=True)
    factors = Mask(q.new_empty(1, 1, length, 64), q.new_empty(1, 1, length, 64))
    return cheapest(q, q, q, factors if fusion != "none" else None, Fusion.parse(fusion)).backend


def test_auto_never_makes_a_huge_score_matrix():
    for fusion in [fusion.name for fusion in Fusion if not fusion.ignores_row_shift]:
        assert choice(fusion, "meta", 32768) == "chunked"
        assert choice(fusion, "cpu", 2048) == "chunked"
    assert choice("add", "meta", 32768) == "sdpa"
    assert choice("none", "meta", 32768) == "sdpa"
    assert choice("mul", "cpu", 50, batch=32) == "reference"


@pytest.mark.parametrize("fusion", FUSIONS)
def test_auto_compiles_in_one_graph(fusion):
    torch._dynamo.reset()
    leaves = inputs(5, 5, dtype=torch.float32)

    def run(q, k, v, left, right, bias):
        return attention(q, k, v, Mask(left, right, bias), fusion=fusion)

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*leaves), run(*leaves), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "shapes, message",
    [
        ([(1, 2, 4, 3), (1, 3, 5, 3), None], "left has 2 groups, right 3"),
        ([(1, 1, 4, 3), (1, 1, 5, 3), (1, 2, 1, 5)], r"bias must be .* with G = 1 and N_k = 5"),
        ([(1, 1, 4, 3), (1, 1, 5, 3), (1, 1, 1, 1)], "bias must be"),
        ([(1, 1, 4, 3), (1, 1, 5, 3), (1, 1, 4, 5)], "bias must be"),
        ([(1, 1, 4, 3), None, None], "both factors or none"),
        ([None, None, None], "from_dense"),
        ([(1, 1, 4, 0), (1, 1, 5, 0), None], r"values, .* \(1, 4, 5\), is None"),
        ([(1, 1, 4, 0), (1, 1, 5, 0), (1, 1, 1, 5)], r"values, .* \(1, 4, 5\), is \(1, 1, 1, 5\)"),
        ([(4, 3), (5, 3), None], "4 dimensions"),
    ],
)
def test_factors_that_do_not_fit_are_refused(shapes, message):
    with pytest.raises(ValueError, match=message):
        Mask(*(None if shape is None else torch.zeros(shape) for shape in shapes))
