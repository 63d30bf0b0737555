"""Masks in whole models of torch.nn: decoders, copies, compilation, and what is refused."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lcaam.analysis import record
from lcaam.integrations.torch_nn import attach, detach
from tests.lcaam.integrations.small_torch_nn import (
    CAUSAL,
    LAYERS,
    PADDED,
    D,
    H,
    N,
    close,
    encoder,
    large_scores,
    mask_layers,
    random_masks,
    tokens,
)

# -- other models -----------------------------------------------------------------------------------------------------


def test_a_decoder_has_other_masks_for_self_and_cross_attention():
    torch.manual_seed(0)
    layer = nn.TransformerDecoderLayer(D, H, 16, 0.0, batch_first=True, norm_first=True)
    model = nn.TransformerDecoder(layer, LAYERS)
    large_scores(model)
    target, memory = tokens(), tokens(count=5, seed=4)
    causal = dict(tgt_mask=CAUSAL, tgt_is_causal=True)
    plain = model(target, memory, **causal)
    with pytest.raises(ValueError, match=r"self- and cross-attention.*layers.0.self_attn, layers.0.multihead_attn"):
        attach(model, mask_layers())
    attach(model, mask_layers("tied"), names="*.multihead_attn")
    attach(model.layers[0], mask_layers(layers=1), names="self_attn")
    close(model(target, memory, **causal), plain)
    random_masks(model)
    with record(model) as calls:
        model(target, memory, **causal)
    assert [call.mask.shape if call.mask is not None else None for call in calls] == [
        (3, 1, N, N),
        (3, 1, N, 5),
        (3, 1, N, 5),
    ]


def test_a_whole_transformer():
    torch.manual_seed(0)
    model = nn.Transformer(D, H, 1, 1, 16, 0.0, batch_first=True)
    large_scores(model)
    source, target = tokens(), tokens(count=5, seed=4)
    options = dict(tgt_mask=nn.Transformer.generate_square_subsequent_mask(5), src_key_padding_mask=PADDED)
    options |= dict(memory_key_padding_mask=PADDED)
    plain = model.eval()(source, target, **options)
    attach(model, mask_layers("per_layer", 2, fusion="temper"), names=["encoder.*", "decoder.*.self_attn"])
    attach(model.decoder, mask_layers("shared", 1), names="layers.?.multihead_attn")
    close(model(source, target, **options), plain)
    for part in (model, model.decoder):
        random_masks(part)
    assert (model(source, target, **options) - plain).abs().max() > 1e-2
    detach(model.decoder)
    detach(model)
    close(model(source, target, **options), plain, atol=0)


class Words(nn.Module):
    """Somebody's own model, with a layer that may be left out and checkpointing."""

    def __init__(self, skip=(), **checkpointing):
        super().__init__()
        self.layers = nn.ModuleList(encoder(layers=1).layers[0] for _ in range(LAYERS))
        self.skip, self.checkpointing = skip, checkpointing

    def forward(self, x):
        for number, layer in enumerate(self.layers):
            if number not in self.skip:
                x = checkpoint(layer, x, **self.checkpointing) if self.checkpointing else layer(x)
        return x


def test_an_attention_that_is_not_called_is_named_once_the_first_forward_is_over():
    model = attach(Words(skip=[1]), mask_layers())
    with pytest.raises(RuntimeError, match=r"first forward did not call layers.1.self_attn, so"):
        model(tokens())
    model.skip = ()
    model(tokens())
    model.skip = [1]  # later a layer may be dropped at random
    model(tokens())
    model = attach(Words(skip=[0, 1]), mask_layers())
    with pytest.raises(RuntimeError, match=r"did not call layers.0.self_attn, layers.1.self_attn, so"):
        model(tokens())


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(reentrant):
    grads = []
    for checkpointing in (dict(), dict(use_reentrant=reentrant)):
        model = random_masks(attach(Words(**checkpointing), mask_layers("per_layer")))
        model(tokens().requires_grad_()).square().mean().backward()
        grads.append([parameter.grad for parameter in model.lcaam.parameters()])
    for plain, checkpointed in zip(*grads, strict=True):
        assert plain.abs().max() > 0
        close(checkpointed, plain)
    model = attach(Words(use_reentrant=reentrant), mask_layers("shared"))
    with pytest.raises(RuntimeError, match="gradient checkpointing does that in backward"):
        model(tokens().requires_grad_()).sum().backward()


def test_a_layer_by_itself_has_its_mask_unless_it_is_shared():
    model, x = random_masks(attach(encoder(), mask_layers())), tokens()
    by_hand = x
    for layer in model.layers:
        by_hand = layer(by_hand)
    assert torch.equal(by_hand, model(x))
    shared = attach(encoder(), mask_layers("shared"))
    with pytest.raises(RuntimeError, match="outside the forward of the model"):
        shared.layers[1](x)
    model = attach(Words(), mask_layers("shared"))
    model.skip = [0]
    with pytest.raises(RuntimeError, match=r"layers.1.self_attn was called before layers.0.self_attn"):
        model(x)


# -- what stays -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["copy", "pickle"]
)
def test_copies_are_independent_and_detach_gives_the_model_back(copied):
    model, x = encoder(), tokens()
    names, plain = list(model.state_dict()), model(x)
    random_masks(attach(model, mask_layers("shared")))
    assert [name for name in model.state_dict() if not name.startswith("lcaam.")] == names
    assert len(model.state_dict()) == len(names) + 4
    assert type(model).__name__ == "AttachedTransformerEncoder" and isinstance(model, nn.TransformerEncoder)
    twin = copied(model)
    assert torch.equal(twin(x), model(x))
    random_masks(model, seed=9)
    assert not torch.equal(twin(x), model(x))
    again = attach(encoder(seed=5), mask_layers("shared"))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), model(x))
    for each in (twin, model):
        assert detach(each) is each and type(each) is nn.TransformerEncoder
        assert list(each.state_dict()) == names and torch.equal(each(x), plain)
        assert type(each.layers[0].self_attn) is nn.MultiheadAttention


def test_weights_can_be_drawn_again_under_the_masks():
    model, again = attach(encoder(), mask_layers()), encoder()
    for each in (model, again):
        torch.manual_seed(7)
        for module in each.modules():
            if isinstance(module, nn.MultiheadAttention):
                module._reset_parameters()
    close(model(tokens()), again(tokens()))
    assert not torch.equal(again(tokens()), encoder()(tokens()))


def test_encoders_without_masks_keep_their_nested_tensors():
    model = nn.Transformer(D, 2, 1, 1, 16, batch_first=True)
    attach(model, mask_layers(layers=1), "decoder.*.self_attn")
    assert model.encoder.use_nested_tensor
    attach(model.encoder, mask_layers(layers=1))
    assert not model.encoder.use_nested_tensor
    assert detach(model.encoder).use_nested_tensor


def test_masks_move_to_the_model():
    model = attach(encoder().double().eval(), mask_layers())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    assert not model.lcaam.training
    assert model(tokens().double()).dtype == torch.float64


def test_autocast_is_as_torch_has_it():
    model, x = encoder(), tokens()
    with torch.autocast("cpu", torch.bfloat16):
        inputs = [x.bfloat16()] * 3
        plain = model.layers[0].self_attn(*inputs)
        found = attach(model, mask_layers()).layers[0].self_attn(*inputs)
    for own, expected in zip(found, plain, strict=True):
        assert own.dtype == expected.dtype == torch.bfloat16
        assert (own - expected).norm() < 0.02 * expected.norm()


@pytest.mark.slow
def test_a_compiled_model_is_the_model():
    with pytest.raises(TypeError, match="OptimizedModule is a wrapper"):
        attach(torch.compile(encoder()), mask_layers())
    model, x = random_masks(attach(encoder(), mask_layers("shared"))).eval(), tokens()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for options in (dict(), dict(src_key_padding_mask=PADDED)):
        close(compiled(x, **options), model(x, **options))
    assert model.lcaam.traced is None
    close(torch.export.export(model, (x,)).module()(x), model(x))
    with pytest.raises(RuntimeError, match="may hold 0"):
        compiled(x, src_key_padding_mask=torch.ones(3, N))


# -- what is refused --------------------------------------------------------------------------------------------------


class OwnAttention(nn.MultiheadAttention):
    pass


def test_what_cannot_have_these_masks_is_refused_and_unchanged():
    for model, masks, options, error, message in (
        (nn.Linear(2, 2), mask_layers(), dict(), TypeError, "Linear contains no torch.nn.MultiheadAttention"),
        (
            encoder(),
            mask_layers(layers=3),
            dict(),
            ValueError,
            "masks for 3 layers given to 2 attentions: layers.0",
        ),
        (encoder(), mask_layers(dim=8), dict(), ValueError, "query width of 8 given to layers.0.self_attn of 12"),
        (encoder(), mask_layers("tied", depth=1, dim=8), dict(), ValueError, "query width of 8 given to layers.0"),
        (encoder(), mask_layers(rank=2, depth=1, dim=8), dict(), ValueError, "query width of 8 given to layers.0"),
        (encoder(), mask_layers(length="content", key_dim=8), dict(), ValueError, "key width of 8 given to layers.0"),
        (encoder(), mask_layers(groups=2), dict(), ValueError, "2 groups do not fit layers.0.self_attn, which has 3"),
        (encoder(), mask_layers(fusion="add"), dict(fusion="mul"), ValueError, "made for fusion 'add'"),
        (encoder(), mask_layers(), dict(backend="sdp"), ValueError, "Did you mean 'sdpa'"),
        (encoder(), mask_layers(), dict(names="layer.*"), ValueError, r"no attention is called 'layer.\*'; there are"),
        (encoder(), mask_layers(), dict(names="layers.0.self_atn"), ValueError, "Did you mean 'layers.0.self_attn'"),
        (encoder(), mask_layers().nets, dict(), TypeError, "takes a LayerMasks, got ModuleList"),
        (OwnAttention(D, H), mask_layers(layers=1), dict(), TypeError, "OwnAttention, whose forward is its own"),
        (nn.MultiheadAttention(D, H, add_bias_kv=True), mask_layers(layers=1), {}, TypeError, "add_bias_kv=True"),
        (nn.MultiheadAttention(D, H, add_zero_attn=True), mask_layers(layers=1), {}, TypeError, "add_zero_attn=True"),
        (nn.DataParallel(encoder()), mask_layers(), dict(), TypeError, "DataParallel is a wrapper"),
    ):
        kinds, names = [type(module) for module in model.modules()], list(model.state_dict())
        with pytest.raises(error, match=message):
            attach(model, masks, **options)
        assert [type(module) for module in model.modules()] == kinds and list(model.state_dict()) == names
    model = attach(encoder(), mask_layers())
    with pytest.raises(ValueError, match=r"masks attached already; detach\(model\) first"):
        attach(model, mask_layers())
    with pytest.raises(ValueError, match="self_attn has a mask already"):
        attach(model.layers[1], mask_layers(layers=1))
    with pytest.raises(ValueError, match="no masks attached; they are attached to its 0"):
        detach(nn.Sequential(model))
    with pytest.raises(ValueError, match="this Linear has no masks attached$"):
        detach(nn.Linear(2, 2))
    taken = encoder()
    taken.lcaam = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="has an attribute `lcaam`"):
        attach(taken, mask_layers())


def test_inputs_that_a_mask_cannot_go_with_are_refused():
    module, x = attach(nn.MultiheadAttention(D, H, batch_first=True), mask_layers(layers=1)), tokens()
    for inputs, options, message in (
        ((x, x, x), dict(attn_mask=torch.randn(N, N)), "float attn_mask of an attention with a mask may hold 0"),
        ((x, x, x), dict(key_padding_mask=torch.ones(3, N)), "float key_padding_mask"),
        ((x, x, x), dict(attn_mask=torch.ones(N, N, dtype=torch.long)), "must be bool .* or float, got torch.int64"),
        ((x, x, x), dict(attn_mask=torch.ones(1, N, N, dtype=torch.bool)), r"\(9, 7, 7\), has shape \(1, 7, 7\)"),
        ((x, x, x), dict(key_padding_mask=PADDED[:2]), r"\(B, N_k\) = \(3, 7\), has shape \(2, 7\)"),
        ((x, x, x), dict(is_causal=True), "hint about attn_mask"),
        ((x, x[0], x[0]), dict(), "all of a batch with 3 dimensions"),
        ((tokens(count=8),) * 3, dict(), "7 key columns and the sequence 8 keys"),
    ):
        with pytest.raises(ValueError, match=message):
            module(*inputs, **options)
    nested = torch.nested.nested_tensor([x[0], x[1, :3]])
    with pytest.raises(ValueError, match="takes no nested tensors"):
        module(nested, nested, nested)
