"""The backbone and its mask schedules."""

import pytest
import torch

from lcaam import Encoder, LayerMasks, MultiheadAttention
from lcaam.analysis import record
from lcaam.stack import SCOPES
from tests.lcaam.names import FUSIONS


def build(scope, num_layers=3, dim=16, num_keys=9, norm="pre", fusion="mul", **options):
    torch.manual_seed(0)
    options = {"num_keys": num_keys, "init": "kaiming", "fusion": fusion, **options}
    masks = LayerMasks(scope=scope, num_layers=num_layers, dim=dim, **options)
    return Encoder(dim, num_layers, heads=2, norm=norm, masks=masks).eval()


def test_audio_description_masks_have_the_papers_number_of_parameters():
    """Paper: 7.072 B - 6.930 B = 142 M; 8 layers of 30 hidden layers 768 -> 768 and 768 -> 50."""
    with torch.device("meta"):
        masks = LayerMasks(scope="per_layer", num_layers=8, dim=768, num_keys=50, depth=31)
    assert sum(p.numel() for p in masks.parameters()) == 142_049_680 == 8 * (30 * 590_592 + 38_450)


def test_modules_per_scope():
    modules = {"none": 0, "shared": 1, "tied": 1, "per_layer": 3}
    assert {scope: len(build(scope).masks.nets) for scope in SCOPES} == modules


def test_shared_uses_one_mask_of_the_stacks_input_in_every_layer():
    encoder, x = build("shared"), torch.randn(2, 9, 16)
    with record(encoder) as records:
        encoder(x)
    expected = encoder.masks.nets[0](x).dense()
    assert all(torch.equal(r.mask, expected) for r in records) and len(records) == 3


@pytest.mark.parametrize("scope", ["tied", "per_layer"])
def test_every_layer_masks_its_own_input(scope):
    encoder, x = build(scope), torch.randn(2, 9, 16)
    layer_inputs = []
    for layer in encoder.layers:
        layer.register_forward_pre_hook(lambda module, args: layer_inputs.append(args[0]))
    with record(encoder) as records:
        encoder(x)
    for number, (call, layer_input) in enumerate(zip(records, layer_inputs, strict=True)):
        net = encoder.masks.nets[number if scope == "per_layer" else 0]
        assert torch.equal(call.mask, net(layer_input).dense())
    assert not torch.equal(records[0].mask, records[1].mask)


def test_no_masks_equals_scope_none():
    plain = build("none")
    without = Encoder(16, 3, heads=2).eval()
    without.load_state_dict(plain.state_dict())
    x = torch.randn(2, 9, 16)
    assert torch.equal(plain(x), without(x))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_plain_encoder_equals_torchs_layers(norm):
    """The same weights in torch's own Transformer encoder give the same outputs."""
    ours = build("none", norm=norm)
    layer = torch.nn.TransformerEncoderLayer(16, 2, 64, 0.0, "gelu", batch_first=True, norm_first=norm == "pre")
    theirs = torch.nn.TransformerEncoder(layer, 3, torch.nn.LayerNorm(16) if norm == "pre" else None, False).train()
    state = {}
    for i, mine in enumerate(ours.layers):
        attention, to = mine.attention, f"layers.{i}."
        parts = [attention.query, attention.key, attention.value]
        state[to + "self_attn.in_proj_weight"] = torch.cat([p.weight for p in parts])
        state[to + "self_attn.in_proj_bias"] = torch.cat([p.bias for p in parts])
        names = {"self_attn.out_proj": attention.out, "linear1": mine.expand, "linear2": mine.contract}
        names |= {"norm1": mine.attention_norm, "norm2": mine.feedforward_norm}
        for name, module in names.items():
            state |= {f"{to}{name}.weight": module.weight, f"{to}{name}.bias": module.bias}
    if norm == "pre":
        state |= {"norm.weight": ours.norm.weight, "norm.bias": ours.norm.bias}
    theirs.load_state_dict(state)
    x, keep = torch.randn(2, 9, 16), torch.ones(2, 9, dtype=torch.bool)
    keep[1, 5:] = False
    expected = theirs(x, src_key_padding_mask=~keep)
    torch.testing.assert_close(ours(x, keep=keep), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_padding_content_and_length_change_nothing(scope, fusion):
    encoder = build(scope, fusion=fusion)
    x = torch.randn(2, 9, 16)
    keep = (torch.arange(9) < 6).expand(2, 9)
    expected = encoder(x[:, :6])
    torch.testing.assert_close(encoder(x, keep=keep)[:, :6], expected, rtol=0, atol=1e-5)
    noise = torch.where(keep[..., None], x, 100 * torch.randn_like(x))
    torch.testing.assert_close(encoder(noise, keep=keep)[:, :6], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scope", SCOPES)
def test_causal_masks_leak_nothing_from_the_future(scope):
    encoder, x = build(scope), torch.randn(1, 9, 16)
    changed = x.clone()
    changed[:, 6:] += 1
    torch.testing.assert_close(encoder(x, causal=True)[:, :6], encoder(changed, causal=True)[:, :6], rtol=0, atol=1e-6)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_row_of_a_batch_equals_the_sample_alone(scope):
    encoder, x = build(scope), torch.randn(4, 9, 16)
    torch.testing.assert_close(encoder(x)[2:3], encoder(x[2:3]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scope", SCOPES)
def test_cross_attention_to_tokens_of_another_width(scope):
    torch.manual_seed(0)
    masks = LayerMasks(scope=scope, num_layers=2, dim=16, num_keys=5, init="kaiming")
    encoder = Encoder(16, 2, heads=4, key_dim=12, masks=masks).eval()
    x, keys = torch.randn(2, 7, 16), torch.randn(2, 5, 12)
    assert encoder(x, keys).shape == (2, 7, 16)
    keep = (torch.arange(5) < 3).expand(2, 5)
    torch.testing.assert_close(encoder(x, keys, keep=keep), encoder(x, keys[:, :3]), rtol=0, atol=1e-5)


def test_every_parameter_learns():
    for scope in SCOPES:
        encoder = build(scope).train()
        encoder(torch.randn(2, 9, 16)).square().sum().backward()
        # a key bias shifts all scores of a query alike, which plain softmax ignores
        dead = {n for n, p in encoder.named_parameters() if p.grad is None or p.grad.abs().max() == 0}
        assert all(name.endswith("key.bias") for name in dead)


def test_dropout_acts_in_training_only():
    encoder = Encoder(16, 2, heads=2, dropout=0.5)
    x = torch.randn(2, 9, 16)
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="unknown scope 'global'; allowed: none, shared, tied, per_layer"):
        LayerMasks(scope="global")
    with pytest.raises(ValueError, match="num_layers must be at least 1"):
        LayerMasks(num_layers=0)
    with pytest.raises(ValueError, match="masks for 2 layers given to a stack of 3"):
        Encoder(16, 3, heads=2, masks=LayerMasks(num_layers=2))
    with pytest.raises(ValueError, match="3 heads do not divide dim=16"):
        MultiheadAttention(16, heads=3)
    with pytest.raises(ValueError, match="unknown norm 'rms'"):
        Encoder(16, 1, heads=2, norm="rms")
    masks = LayerMasks(scope="shared", num_layers=2, dim=4, num_keys=3)
    with pytest.raises(ValueError, match="needs shared="):
        masks(torch.randn(1, 3, 4), layer=0)
    with pytest.raises(ValueError, match="layer 2 of 2"):
        masks(torch.randn(1, 3, 4), layer=2)


def test_a_longer_sequence_than_the_mask_is_refused():
    with pytest.raises(ValueError, match="9 key columns and the sequence 10 keys.*interpolate.*content"):
        build("shared")(torch.randn(1, 10, 16))
