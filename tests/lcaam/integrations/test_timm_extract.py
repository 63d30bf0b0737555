"""timm's and torchvision's ways to look into a model, on a grafted one: the maps themselves, or a refusal."""

import pytest
import torch
from timm.models.eva import Eva
from timm.utils import AttentionExtract
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from lcaam.analysis import record
from lcaam.integrations.timm import graft
from tests.lcaam.integrations.small_vit import images, random_masks, small_vit
from tests.lcaam.names import FUSIONS

NAMES = [f"blocks.{number}.attn.attn_drop" for number in range(3)]


def unfused(model):
    """timm computes attention weights that hooks can see only with its fused attention off."""
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return model


def rotary():
    torch.manual_seed(0)
    sizes = dict(img_size=(12, 20), patch_size=4, embed_dim=24, num_heads=3, num_classes=7)
    return Eva(**sizes, depth=3, use_rot_pos_emb=True).eval()


@pytest.mark.parametrize("make", [small_vit, rotary])
@pytest.mark.parametrize("fused", [True, False])
def test_hooks_read_the_maps_of_a_grafted_model(make, fused):
    expected = AttentionExtract(unfused(make()), method="hook")(images())
    assert list(expected) == NAMES
    model = make() if fused else unfused(make())
    vit = graft(model, "per_layer", hidden=5)
    for found, own in zip(AttentionExtract(vit, method="hook")(images()).values(), expected.values(), strict=True):
        torch.testing.assert_close(found, own, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_hooks_read_the_weights_of_the_equation_and_change_no_output(fusion):
    vit = graft(small_vit(), "per_layer", fusion, hidden=5)
    random_masks(vit)
    expected = vit(images())
    with record(vit) as calls:
        vit(images())
    extract, keep = AttentionExtract(vit, method="hook"), torch.ones(16, 16, dtype=torch.bool).tril()
    with record(vit) as watched:
        maps = extract(images())
    assert list(maps) == NAMES and len(watched) == len(calls) == 3
    for found, call, again in zip(maps.values(), calls, watched, strict=True):
        torch.testing.assert_close(found, call.weights.expand_as(found), rtol=0, atol=1e-5)
        torch.testing.assert_close(again.weights, call.weights, rtol=0, atol=1e-5)
    torch.testing.assert_close(vit(images()), expected, rtol=0, atol=1e-5)
    kept = []
    vit.blocks[0].attn.attn_drop.register_forward_hook(lambda module, inputs, output: kept.append(output))
    vit(images(), attn_mask=keep)
    assert not kept[0][..., ~keep].any() and kept[0].requires_grad


def test_a_hook_that_changes_the_weights_changes_the_output():
    vit = graft(small_vit(), hidden=5).train()
    drop = vit.blocks[-1].attn.attn_drop
    handle = drop.register_forward_hook(lambda module, inputs, output: output * 0)
    values = vit.blocks[-1].attn.proj
    seen = []
    values.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    vit(images())
    handle.remove()
    vit(images())
    assert not seen[0].any() and seen[1].any()


def test_dropout_meets_the_maps_in_training():
    vit = graft(small_vit(attn_drop_rate=0.5), "none").train()
    seen = []
    vit.blocks[0].attn.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    vit(images())
    ((before, after),) = seen
    torch.testing.assert_close(before.sum(-1), torch.ones_like(before.sum(-1)))
    assert 0.2 < (after == 0).float().mean() < 0.8


def test_symbolic_traces_are_refused_with_a_reason():
    reason = "cannot be traced symbolically by torch.fx.*AttentionExtract"
    for make in (small_vit, rotary):
        with pytest.raises(TypeError, match=reason):
            AttentionExtract(graft(unfused(make())), method="fx")
        with pytest.raises(TypeError, match=reason):
            create_feature_extractor(graft(make()), ["blocks.0"])
    with pytest.raises(TypeError, match=reason):
        torch.fx.symbolic_trace(nn.Sequential(graft(small_vit())))
