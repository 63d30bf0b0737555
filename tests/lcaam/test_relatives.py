"""Published relatives of masks against their equations, written as loops over single numbers or solved by bisection."""

import math

import pytest
import torch

from lcaam import Encoder, LayerMasks, Memory, attention
from lcaam.relatives import contextual_positions, entmax15, with_contextual_positions, with_sparse_softmax
from lcaam.span import SpanMask
from tests.lcaam.loop import attention_loop, inputs

# -- entmax-1.5 -------------------------------------------------------------------------------------------------------


def bisected(row: list[float]) -> list[float]:
    """tau between max - 1 and max, halved until the weights sum to 1."""
    half = [score / 2 for score in row]
    low, high = max(half) - 1, max(half)
    for _ in range(100):
        tau = (low + high) / 2
        if sum(max(z - tau, 0) ** 2 for z in half) > 1:
            low = tau
        else:
            high = tau
    return [max(z - low, 0) ** 2 for z in half]


@pytest.mark.parametrize("size", [1, 2, 7, 64])
@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_entmax_is_the_solution_of_its_equation(size, scale):
    score = scale * torch.randn(5, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    found = entmax15(score)
    expected = torch.tensor([bisected(row) for row in score.tolist()], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.sum(-1), torch.ones(5, dtype=torch.float64))
    if scale == 10.0 and size == 64:
        assert (found == 0).float().mean() > 0.5
    torch.testing.assert_close(entmax15(score.float()).double(), expected, rtol=0, atol=1e-5)


def test_entmax_has_the_gradients_of_its_equation_ties_and_closed_scores_included():
    score = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    score[1, 2:4] = -torch.inf
    closed = score.isinf()
    assert torch.equal(entmax15(score) == 0, (entmax15(score) == 0) | closed)
    leaf = score.masked_fill(closed, 0.0).requires_grad_()
    torch.autograd.gradcheck(lambda s: entmax15(s.masked_fill(closed, -torch.inf)), (leaf,))
    equal = entmax15(torch.zeros(2, 5, dtype=torch.float64))
    torch.testing.assert_close(equal, torch.full_like(equal, 0.2))


@pytest.mark.parametrize("fusion", ["add", "mul"])
def test_an_encoder_with_a_sparse_softmax_keeps_its_weights_masks_and_structure(fusion):
    torch.manual_seed(0)
    masks = LayerMasks("per_layer", 1, kind="table", num_keys=7, fusion=fusion)
    torch.nn.init.normal_(masks.nets[0].change)
    encoder, x = Encoder(8, 1, 2, masks=masks).double().eval(), torch.randn(2, 7, 8, dtype=torch.float64)
    keep = torch.arange(7) < torch.tensor([[7], [4]])
    with_sparse_softmax(encoder)
    (layer,) = encoder.layers
    normed = layer.attention_norm(x)
    q, k, v = (
        linear(normed).unflatten(-1, (2, 4)).transpose(1, 2)
        for linear in (layer.attention.query, layer.attention.key, layer.attention.value)
    )
    score = q @ k.transpose(-2, -1) / 2
    score = masks.fusion(score, masks(x, layer=0).dense())
    weight = torch.zeros_like(score)
    for sample, head, i in torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(7)).tolist():
        keys = [j for j in range(i + 1) if keep[sample, j]]
        weight[sample, head, i, keys] = torch.tensor(
            bisected(score[sample, head, i, keys].tolist()), dtype=torch.float64
        )
    expected = layer.attention.out((weight @ v).transpose(1, 2).flatten(2))
    found = layer.attention(normed, mask=masks(x, layer=0), keep=keep, causal=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)
    encoder(x, keep=keep, causal=True).square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
    nobody = layer.attention(normed, keep=torch.zeros(2, 7, dtype=torch.bool))
    torch.testing.assert_close(nobody, layer.attention.out.bias.expand(2, 7, -1))


# -- CoPE -------------------------------------------------------------------------------------------------------------


def cope_loop(query, key, table, scale):
    """query (N_q, d), key (N_k, d) of one head: the term of each pair that causal attention keeps."""
    n_q, n_k = len(query), len(key)
    found = torch.zeros(n_q, n_k, dtype=query.dtype)
    for i in range(n_q):
        last = i + n_k - n_q
        for j in range(last + 1):
            p = sum(1 / (1 + math.exp(-scale * float(query[i] @ key[k]))) for k in range(j, last + 1))
            p = min(p, len(table) - 1)
            low, high = math.floor(p), math.ceil(p)
            found[i, j] = query[i] @ (table[low] + (p - low) * (table[high] - table[low]))
    return found


@pytest.mark.parametrize("positions", [1, 3, 40])
@pytest.mark.parametrize("n_q, n_k", [(6, 6), (2, 7), (1, 1)])
def test_contextual_positions_are_those_of_the_loop(n_q, n_k, positions):
    query, key, *_ = (tensor.detach() for tensor in inputs(n_q, n_k))
    table = torch.randn(positions, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = contextual_positions(query, key, table, 0.7)
    past = torch.ones(n_q, n_k, dtype=torch.bool).tril(n_k - n_q)
    for sample in range(2):
        for head in range(2):
            expected = cope_loop(query[sample, head], key[sample, head], table, 0.7)
            torch.testing.assert_close(found[sample, head][past], expected[past], rtol=0, atol=1e-10)


def test_contextual_positions_have_gradients_for_queries_keys_and_the_table():
    query, key, *_ = inputs(4, 4, b=1, h=1)
    table = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda q, k, t: contextual_positions(q, k, t, 0.5).tril(), (query, key, table))


def test_an_encoder_with_contextual_positions_starts_as_without_learns_and_decodes():
    torch.manual_seed(0)
    encoder, x = Encoder(16, 2, 2).eval(), torch.randn(2, 7, 16)
    expected = encoder(x, causal=True)
    with_contextual_positions(encoder, 5)
    torch.testing.assert_close(encoder(x, causal=True), expected, rtol=0, atol=1e-5)
    encoder(x, causal=True).square().sum().backward()
    tables = [layer.attention.positions for layer in encoder.layers]
    assert all(table.shape == (5, 8) and table.grad.abs().max() > 0 for table in tables)
    for table in tables:
        torch.nn.init.normal_(table)
    memory, parts = Memory(), []
    with torch.no_grad():
        for part in x.split([4, 1, 2], 1):
            parts.append(encoder(part, causal=True, memory=memory))
            memory.keep()
        torch.testing.assert_close(torch.cat(parts, 1), encoder(x, causal=True), rtol=0, atol=1e-5)
    assert not torch.allclose(encoder(x, causal=True), expected, atol=1e-2)
    with pytest.raises(ValueError, match="need causal=True"):
        encoder(x)


def test_what_relatives_refuse():
    with pytest.raises(ValueError, match="positions must be at least 1, got 0"):
        with_contextual_positions(Encoder(16, 1, 2), 0)
    with pytest.raises(ValueError, match="backend 'sdpa' computes softmax attention; allowed: auto, reference"):
        with_sparse_softmax(Encoder(16, 1, 2, backend="sdpa"))
    with pytest.raises(TypeError, match="an attention of class SparseAttention; allowed: lcaam.MultiheadAttention"):
        with_contextual_positions(with_sparse_softmax(Encoder(16, 1, 2)), 4)


# -- adaptive attention span ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ramp, start", [(1, 0.0), (3, 0.2), (3, 0.9), (32, 1.0)])
@pytest.mark.parametrize("causal", [False, True])
def test_a_span_multiplies_weights_by_the_published_window(ramp, start, causal):
    n, longest = 8, 10
    net = SpanMask(longest + 1, groups=2, ramp=ramp, start=start).double()
    torch.nn.init.normal_(net.change, std=0.05, generator=torch.Generator().manual_seed(0))
    q, k, v, *_ = (tensor.detach() for tensor in inputs(n, n))
    found = attention(q, k, v, net(torch.zeros(2, n, 1)), causal=causal)
    for sample in range(2):
        for head in range(2):
            z = longest * min(max(start + net.change[head].item(), 0), 1)
            for i in range(n):
                keys = range(i + 1 if causal else n)
                window = [min(max((z + ramp - abs(i - j)) / ramp, 0), 1) for j in keys]
                weight = [
                    w * math.exp(float(q[sample, head, i] @ k[sample, head, j]) / math.sqrt(3))
                    for j, w in zip(keys, window, strict=True)
                ]
                expected = sum(w / sum(weight) * v[sample, head, j] for j, w in zip(keys, weight, strict=True))
                torch.testing.assert_close(found[sample, head, i], expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(net.sparsity_loss().item(), net.spans().mean().item())


def test_a_span_has_the_gradient_of_its_window_and_its_loss_shortens_it():
    q, k, v, *_ = (tensor.detach() for tensor in inputs(8, 8))
    net = SpanMask(8, ramp=3, start=0.4).double()

    def out(change):
        return torch.func.functional_call(net, {"change": change}, (torch.zeros(2, 8, 1),))

    change = net.change.detach().clone().requires_grad_()
    torch.autograd.gradcheck(lambda c: attention(q, k, v, out(c)), (change,))
    net.sparsity_loss().backward()
    assert net.change.grad.item() == 7.0
    closed = SpanMask(8, ramp=2, start=0.0)
    torch.nn.init.constant_(closed.change, -0.5)  # below the shortest span: it can come back
    attention_loop(q, k, v, closed.double()(torch.zeros(2, 8, 1)).dense().expand(2, -1, -1, -1), "add").sum().backward()
    assert closed.change.grad.abs() > 0


@pytest.mark.parametrize("options, message", [({"ramp": 0}, "ramp: 0 is out"), ({"start": -0.1}, "start: -0.1 is out")])
def test_what_a_span_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        SpanMask(8, **options)
    with pytest.raises(ValueError, match="SpanMask: fusion 'gate' has no such form; allowed: add"):
        SpanMask(8, fusion="gate")
