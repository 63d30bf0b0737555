"""A mask says which fusion it was made for; whoever uses it takes that one or is told that another is wrong."""

import copy
import pickle

import pytest
import torch
from torch import nn

from lcaam import ContextAwareMask, Encoder, Fusion, LayerMasks, Mask, MultiheadAttention, StaticMask, attention
from lcaam.stack import KINDS
from tests.lcaam.names import FUSIONS

LENGTHS = ("fixed", "interpolate", "content")


def qkv(n=9, seed=0):
    torch.manual_seed(seed)
    return torch.randn(3, 2, 4, n, 4).unbind()


def test_the_mask_s_own_fusion_is_the_default():
    q, k, v = qkv()
    x = torch.randn(2, 9, 16)
    for fusion in FUSIONS:
        mask = ContextAwareMask(16, 9, init="kaiming", fusion=fusion)(x)
        assert mask.fusion is Fusion.parse(fusion)
        bare = Mask(mask.left, mask.right, mask.bias)
        torch.testing.assert_close(attention(q, k, v, mask), attention(q, k, v, bare, fusion=fusion), rtol=0, atol=0)
    assert torch.equal(attention(q, k, v, bare), attention(q, k, v, bare, fusion="mul"))
    assert StaticMask(9, 9)(x).fusion is Fusion.add and StaticMask(9, 9, fusion="gate")(x).fusion is Fusion.gate


@pytest.mark.parametrize("use", ["attention", "module", "encoder"])
def test_another_fusion_than_the_mask_s_is_an_error_that_names_both(use):
    q, k, v = qkv()
    x = torch.randn(2, 9, 16)
    mask = StaticMask(9, 9)(x)
    masks = LayerMasks("shared", kind="static", num_queries=9, num_keys=9)
    uses = {
        "attention": lambda: attention(q, k, v, mask, fusion="mul"),
        "module": lambda: MultiheadAttention(16, 4, fusion="mul")(x, mask=mask),
        "encoder": lambda: Encoder(16, 1, 4, masks=masks, fusion="mul"),
    }
    with pytest.raises(ValueError, match="a mask made for fusion 'add' is used with fusion 'mul'"):
        uses[use]()
    assert torch.equal(attention(q, k, v, mask, fusion="none"), attention(q, k, v))


@pytest.mark.parametrize("scope", ["shared", "tied", "per_layer"])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_an_encoder_with_defaults_starts_as_the_plain_one(scope, length, fusion):
    masks = LayerMasks(scope, 2, dim=16, num_keys=9, length=length, fusion=fusion)
    torch.manual_seed(1)
    encoder = Encoder(16, 2, 4, masks=masks).eval()
    torch.manual_seed(1)
    plain = Encoder(16, 2, 4).eval()
    x = torch.randn(3, 9, 16)
    torch.testing.assert_close(encoder(x), plain(x), rtol=0, atol=1e-6)


def test_every_kind_says_its_fusion_and_keeps_it_when_it_is_cut():
    sizes = {"dim": 4, "num_queries": 9, "num_keys": 9, "boundaries": (4,)}
    options = {kind: module.options_from({}, sizes) for kind, module in KINDS.items()}
    for kind, module in KINDS.items():
        net = module(**options[kind])
        mask = net(torch.randn(2, 9, 4))
        assert mask.fusion is net.fusion is not None
        assert LayerMasks("shared", kind=kind, **options[kind]).fusion is net.fusion
        if mask.factored:
            assert mask.first_keys(5).fusion is mask.of_batch(4).fusion is mask.detach().fusion is mask.fusion


# -- initialisation ----------------------------------------------------------------------------------------------------


def usual(module):
    """What nearly every model applies to itself."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_model_s_own_initialisation_leaves_the_masks_neutral(length, fusion):
    net = ContextAwareMask(16, 9, length=length, fusion=fusion).apply(usual)
    mask = net(torch.randn(2, 9, 16)).dense()
    assert torch.equal(mask, torch.full_like(mask, Fusion.parse(fusion).neutral))


def test_reset_parameters_takes_no_arguments_and_starts_again():
    masks = LayerMasks("per_layer", 2, dim=16, num_keys=9)
    encoder = Encoder(16, 2, 4, masks=masks)
    for parameter in encoder.parameters():
        nn.init.constant_(parameter, 3.0)
    encoder.apply(lambda module: module.reset_parameters() if hasattr(module, "reset_parameters") else None)
    assert torch.equal(masks(torch.randn(1, 9, 16), layer=0).dense(), torch.ones(1, 1, 9, 9))
    assert masks.nets[0].hidden[0].weight.std() > 0.1
    static = StaticMask(40, 40)
    nn.init.zeros_(static.table)
    static.reset_parameters()
    assert 0.9 < static.table.std() < 1.1


@pytest.mark.parametrize("kind, options", [("context", {"dim": 16}), ("static", {"num_queries": 9})])
def test_a_model_made_on_the_meta_device_is_initialised_there(kind, options):
    with torch.device("meta"):
        masks = LayerMasks("shared", kind=kind, num_keys=9, **options)
    masks.to_empty(device="cpu")
    for module in masks.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    assert all(parameter.isfinite().all() for parameter in masks.parameters())
    if kind == "context":
        assert torch.equal(masks(torch.randn(1, 9, 16)).dense(), torch.ones(1, 1, 9, 9))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"])
def test_a_copy_starts_itself_again_and_not_the_original(copied):
    net = ContextAwareMask(16, 9)
    for parameter in net.parameters():
        nn.init.constant_(parameter, 3.0)
    other = copied(net)
    other.reset_parameters()
    x = torch.randn(2, 9, 16)
    assert torch.equal(other(x).dense(), torch.ones(2, 1, 9, 9))
    assert all((parameter == 3.0).all() for parameter in net.parameters())


# -- content masks -----------------------------------------------------------------------------------------------------


def test_a_content_mask_of_a_layer_reads_that_layer_s_input_as_keys(monkeypatch):
    masks = LayerMasks("per_layer", 2, dim=16, length="content", init="kaiming", fusion="add")
    encoder, seen = Encoder(16, 2, 4, masks=masks), []
    for net in masks.nets:
        net.register_forward_pre_hook(lambda _, args, kwargs: seen.append((args[0], kwargs["keys"])), with_kwargs=True)
    encoder(torch.randn(2, 9, 16))
    assert all(queries is keys for queries, keys in seen) and not torch.equal(seen[0][0], seen[1][0])
    memory = torch.randn(2, 5, 16)
    encoder(torch.randn(2, 9, 16), keys=memory)
    assert all(keys is memory for _, keys in seen[2:])


def test_content_values_do_not_grow_with_the_width():
    spread = []
    for width in (16, 1024):
        torch.manual_seed(0)
        net = ContextAwareMask(width, length="content", init="kaiming", depth=2)
        spread.append(net(torch.randn(4, 20, width)).dense().std().item())
    assert spread[1] < 2 * spread[0]
