"""Rotary positions and ALiBi: their equations written out, any mask beside them, any length, decoding with a cache."""

import pytest
import torch

from lcaam import Encoder, LayerMasks, Memory
from lcaam.analysis import record
from lcaam.controls import count, encoder_layer_parameters
from lcaam.encoder import EncoderLayer, MultiheadAttention
from lcaam.positions import Alibi, Rotary
from lcaam.presets import alibi_slopes
from lcaam.relatives import with_contextual_positions, with_sparse_softmax

N, DIM, HEADS = 7, 12, 3
D = DIM // HEADS


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def turned(x: torch.Tensor) -> torch.Tensor:
    """RoPE with complex numbers: features i and i + d / 2 of position m are multiplied by exp(i m base^(-2i / d))."""
    half = x.shape[-1] // 2
    rate = 10_000.0 ** (-2 * torch.arange(half) / x.shape[-1])
    angle = torch.arange(x.shape[-2])[:, None] * rate
    found = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([found.real, found.imag], -1)


def written_out(attention: MultiheadAttention, x: torch.Tensor, positions: str, factor: torch.Tensor) -> torch.Tensor:
    """softmax((s + b) m) v, heads one by one; b is ALiBi's bias, or 0 and queries and keys are turned."""
    out = []
    past = torch.ones(N, N, dtype=torch.bool).tril()
    distance = torch.arange(N)[None, :] - torch.arange(N)[:, None]
    for head, part in enumerate(torch.arange(DIM).split(D)):
        q, k, v = (layer(x)[..., part] for layer in (attention.query, attention.key, attention.value))
        if positions == "rotary":
            q, k = turned(q), turned(k)
        score = q @ k.transpose(-2, -1) / D**0.5
        if positions == "alibi":
            score = score + alibi_slopes(HEADS)[head] * distance
        out.append((score * factor).masked_fill(~past, -torch.inf).softmax(-1) @ v)
    return attention.out(torch.cat(out, -1))


@pytest.mark.parametrize("positions", ["rotary", "alibi"])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_the_equation_written_out(positions: str, masked: bool) -> None:
    attention = MultiheadAttention(DIM, HEADS, positions=positions)
    x = torch.randn(2, N, DIM)
    masks = LayerMasks("per_layer", 1, kind="table", num_keys=N, fusion="mul")
    torch.nn.init.normal_(masks.nets[0].change)
    mask = masks(x, layer=0) if masked else None
    factor = mask.dense()[0, 0] if masked else torch.ones(N, N)
    torch.testing.assert_close(attention(x, mask=mask, causal=True), written_out(attention, x, positions, factor))


@pytest.mark.parametrize("positions", ["rotary", "alibi"])
@pytest.mark.parametrize("length", ["fixed", "content"])
def test_decoding_with_a_memory_is_the_whole_sequence(positions: str, length: str) -> None:
    masks = LayerMasks("per_layer", 2, dim=DIM, num_keys=N, hidden=5, length=length, init="kaiming", fusion="add")
    encoder = Encoder(DIM, 2, HEADS, 9, masks=masks, bias=False, positions=positions).eval()
    x, memory = torch.randn(2, N, DIM), Memory()
    with torch.no_grad():
        whole = encoder(x, causal=True)
        parts = []
        for part in x.split([3, 1, 1, 2], 1):
            parts.append(encoder(part, causal=True, memory=memory))
            memory.keep()
    torch.testing.assert_close(torch.cat(parts, 1), whole)


def test_rotary_positions_know_distances_alone() -> None:
    rotary, q, k = Rotary(D), torch.randn(1, 1, 5, D), torch.randn(1, 1, 5, D)
    scores = []
    for more in (0, 3):  # as many keys behind, which move all positions
        padded = torch.cat([k, torch.randn(1, 1, more, D)], 2)
        turned_q, turned_k = rotary(torch.cat([q, torch.randn(1, 1, more, D)], 2), padded, True)
        scores.append((turned_q @ turned_k.transpose(-2, -1))[:, :, :5, :5])
    torch.testing.assert_close(*scores)


def test_alibi_under_autocast_counts_beyond_256() -> None:
    torch.set_default_dtype(torch.float32)
    attention = MultiheadAttention(8, 2, positions="alibi")
    for layer in (attention.query, attention.key):
        torch.nn.init.zeros_(layer.weight)  # the bias alone
    x = torch.randn(1, 700, 8)
    with torch.no_grad():
        whole = attention(x, causal=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = attention(x, causal=True)
    assert half.dtype == torch.bfloat16
    assert (whole - half.float()).abs().max() < 0.03  # the rounding of values; positions in bfloat16 are off by 0.5


def test_what_computes_and_what_is_recorded_are_one_thing() -> None:
    encoder = with_sparse_softmax(Encoder(DIM, 2, HEADS, 9, positions="rotary"))
    assert encoder(torch.randn(2, N, DIM), causal=True).shape == (2, N, DIM)
    encoder = Encoder(DIM, 2, HEADS, 9, positions="alibi")
    with record(encoder) as records:
        encoder(torch.zeros(1, N, DIM), causal=True)
    slopes = torch.tensor(alibi_slopes(HEADS))
    last = (slopes[:, None] * torch.arange(1 - N, 1)).softmax(-1)  # equal tokens: the bias alone
    torch.testing.assert_close(records[0].weights[0, :, -1], last)


def test_a_layer_without_biases_has_none() -> None:
    for bias in (True, False):
        layer = EncoderLayer(DIM, HEADS, 9, bias=bias)
        assert count(layer) == encoder_layer_parameters(DIM, 9, bias)
        assert any(name.endswith("bias") for name, _ in layer.named_parameters()) is bias
    assert not any(name.endswith("bias") for name, _ in Encoder(DIM, 2, HEADS, bias=False).named_parameters())


def test_what_is_refused() -> None:
    x = torch.randn(1, N, DIM)
    with pytest.raises(ValueError, match="unknown positions 'rotery'; allowed: None, rotary, alibi"):
        Encoder(DIM, 1, HEADS, positions="rotery")
    with pytest.raises(ValueError, match="a head needs an even number, it has 3"):
        Rotary(3)
    with pytest.raises(ValueError, match="it needs causal=True"):
        Encoder(DIM, 1, HEADS, positions="alibi")(x)
    with pytest.raises(ValueError, match="positions= is for self-attention"):
        Encoder(DIM, 1, HEADS, positions="rotary")(x, keys=torch.randn(1, 4, DIM))
    with pytest.raises(ValueError, match="take the place of others"):
        with_contextual_positions(Encoder(DIM, 1, HEADS, positions="alibi"), 8)
    assert Alibi(HEADS)(torch.randn(1, HEADS, 1, D), torch.randn(1, HEADS, 4, D), False)[0].shape[-1] == D + 2
