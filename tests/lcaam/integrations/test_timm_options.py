"""graft's static masks and controls, what learns, and what is refused."""

import pytest
import timm
import torch
from timm.layers import Attention, DiffAttention, PatchDropout
from timm.models.vision_transformer import ParallelScalingBlock, ResPostBlock, VisionTransformer

from lcaam import Fusion, LayerMasks, StaticMask
from lcaam.analysis import record
from lcaam.controls import count, extra_parameters
from lcaam.integrations.timm import graft, ungraft
from lcaam.stack import SCOPES as ALL_SCOPES
from tests.lcaam.integrations.small_vit import TOKENS, images, random_masks, small_vit
from tests.lcaam.names import FUSIONS, SCOPES


@pytest.mark.parametrize("fusion", StaticMask.fusions)
@pytest.mark.parametrize("scope", ["shared", "per_layer"])
def test_a_static_mask_is_about_patches_only(scope, fusion):
    vit = graft(small_vit(reg_tokens=2), scope, fusion, kind="static")
    with record(vit) as records:
        vit(images())
    for number, r in enumerate(records):
        table = vit.lcaam.masks.nets[number if scope == "per_layer" else 0].table
        weight = r.mask.sigmoid()[0, 0] if fusion == "gate" else r.mask[0, 0] / 1e4 + 1
        expected = torch.ones(18, 18)
        expected[3:, 3:] = table.detach().sigmoid().fill_diagonal_(1)
        torch.testing.assert_close(weight, expected)
    assert vit.lcaam.masks.sparsity_loss() > 0


@pytest.mark.parametrize("control", ["extra_linear", "extra_layers"])
@pytest.mark.parametrize("scope", ["shared", "per_layer"])
def test_a_control_has_the_masks_parameters_in_another_place(scope, control):
    sizes = dict(embed_dim=48, depth=4)
    plain = count(small_vit(**sizes))
    wanted = extra_parameters(scope=scope, num_layers=4, dim=48, num_keys=TOKENS, depth=9)
    vit = graft(small_vit(**sizes), scope, depth=9, control=control)
    assert count(vit) - plain == pytest.approx(wanted, rel=0.005)
    assert not list(vit.lcaam.masks.parameters())
    with record(vit) as records:
        vit(images())
    assert all(r.mask is None for r in records)
    assert len(records) == 4 + len(vit.lcaam.extra_layers)


def test_extra_linear_layers_come_after_the_attention():
    for residual in (False, True):
        vit = graft(small_vit(), "per_layer", control="extra_linear", control_residual=residual)
        x = vit._pos_embed(vit.patch_embed(images()))
        for block, after in zip(vit.blocks, vit.lcaam.after_attention, strict=True):
            assert after.residual is residual
            x = x + after(block.attn(block.norm1(x)))  # outside of a forward, attention is timm's own
            x = x + block.mlp(block.norm2(x))
        torch.testing.assert_close(vit(images()), vit.forward_head(vit.norm(x)), rtol=0, atol=1e-5)


def test_extra_layers_come_last_and_start_as_nothing():
    vit = small_vit()
    expected = vit(images())
    graft(vit, "per_layer", depth=9, control="extra_layers")
    torch.testing.assert_close(vit(images()), expected, rtol=0, atol=1e-5)
    random_masks(vit)
    x = vit._pos_embed(vit.patch_embed(images()))
    for block in (*vit.blocks, *vit.lcaam.extra_layers):
        x = block(x)
    torch.testing.assert_close(vit(images()), vit.forward_head(vit.norm(x)), rtol=0, atol=1e-4)
    vit = graft(small_vit(), "per_layer", depth=9, control="extra_layers", init="default")
    assert all(block.mlp.fc2.weight.any() for block in vit.lcaam.extra_layers)


# -- learning ---------------------------------------------------------------------------------------------------------

LEARNERS = {f"{scope} {fusion}": dict(scope=scope, fusion=fusion) for scope in SCOPES for fusion in FUSIONS}
LEARNERS |= {
    "content": dict(scope="shared", length="content"),
    "content per layer": dict(scope="per_layer", length="content", fusion="add"),
    "interpolate": dict(scope="tied", length="interpolate", rank=4, groups=3),
    "static": dict(scope="per_layer", fusion="gate", kind="static"),
    "static as published": dict(scope="shared", fusion="add", kind="static"),
    "residual": dict(scope="per_layer", depth=5, residual=True),
    "extra linear": dict(scope="per_layer", hidden=16, control="extra_linear", control_residual=True),
    "extra layers": dict(scope="per_layer", depth=9, control="extra_layers"),
}


@pytest.mark.parametrize("learner", LEARNERS)
def test_every_parameter_learns_within_two_steps(learner):
    # with a static mask on patches, the last block's table is about queries that a class token's logits never see
    vit = graft(small_vit(global_pool="avg" if "static" in learner else "token"), **LEARNERS[learner]).train()
    optimizer = torch.optim.AdamW(vit.parameters(), lr=1e-3)
    moving = set()
    for _ in range(3):  # gradients of the first step, and after one and two
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(vit(images(8)), torch.arange(8) % 7).backward()
        for name, parameter in vit.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            if parameter.grad.any():
                moving.add(name)
        optimizer.step()
    still = {name for name, _ in vit.named_parameters()} - moving
    # an additive static mask as published is closed: see tests/lcaam/test_static.py
    assert still <= ({"lcaam.masks.nets.0.table"} if learner == "static as published" else set())


# -- what is refused --------------------------------------------------------------------------------------------------


def test_other_models_are_refused_by_name():
    small = dict(img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2)
    vit = timm.create_model("beit_base_patch16_224", **small)
    with pytest.raises(TypeError, match=r"Beit is not supported.*Eva \(EVA02, DINOv3.*Block, ResPostBlock"):
        graft(vit)
    with pytest.raises(TypeError, match="Linear is not supported.*go around a grafted model"):
        graft(torch.nn.Linear(2, 2))
    for options, unsupported in (
        (dict(block_fn=ParallelScalingBlock), "ParallelScalingBlock"),
        (dict(attn_layer=DiffAttention), "DiffAttention"),
    ):
        vit = VisionTransformer(**small, **options)
        with pytest.raises(TypeError, match=rf"class {unsupported} are|class {unsupported} is"):
            graft(vit)
        assert type(vit) is VisionTransformer and not hasattr(vit, "lcaam")


def test_a_forward_of_ones_own_is_refused():
    class Own(VisionTransformer):
        def forward_features(self, x, attn_mask=None):
            return x

    with pytest.raises(TypeError, match="Own has a forward_features of its own"):
        graft(Own(img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2))


def test_what_does_not_go_together_is_refused_and_changes_nothing():
    vit = small_vit()
    names = list(vit.state_dict())
    for options, message in (
        (dict(scope="multi"), "unknown scope 'multi'; allowed: none, shared, tied, per_layer"),
        (dict(fusion="mull"), "Did you mean 'mul'"),
        (dict(backend="sdp"), "Did you mean 'sdpa'"),
        (dict(length="fix"), "unknown length 'fix'"),
        (dict(kind="dynamic"), "unknown kind 'dynamic'"),
        (dict(groups=2), "groups is 1 or the model's number of heads, 3; got 2"),
        (dict(depth=0), "depth must be at least 1"),
        (dict(control="extra"), "unknown control 'extra'; allowed: none, extra_linear, extra_layers"),
        (dict(scope="none", control="extra_linear"), "scope 'none' has no masks"),
        (dict(control="extra_layers"), "compare with extra_linear"),
        (dict(kind="static", fusion="mul"), "fusion 'mul' has no static form"),
        (dict(kind="static", fusion="add", length="content"), "a static mask has length 'fixed', got 'content'"),
    ):
        with pytest.raises(ValueError, match=message):
            graft(vit, **options)
        assert type(vit) is VisionTransformer and list(vit.state_dict()) == names
        assert all(type(block.attn) is Attention for block in vit.blocks)
    graft(vit)
    with pytest.raises(ValueError, match=r"has a graft already; ungraft\(vit\) first"):
        graft(vit)
    with pytest.raises(ValueError, match="extra_layers are pre-norm Blocks; this model has ResPostBlock"):
        graft(small_vit(block_fn=ResPostBlock), "per_layer", depth=9, control="extra_layers")


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match="no blocks"):
        graft(timm.create_model("vit_tiny_patch16_224", depth=0))


def test_weights_are_not_drawn_again_under_the_masks():
    """timm's rules would overwrite the masks' start, and in newer versions stop halfway through the model."""
    vit = graft(small_vit())
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    with pytest.raises(ValueError, match="ungraft, init_weights, graft"):
        vit.init_weights()
    assert all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())
    ungraft(vit).init_weights()


def test_patch_dropout_goes_with_content_only():
    vit = small_vit(patch_drop_rate=0.5)
    for options in (dict(), dict(length="interpolate"), dict(kind="static", fusion="add")):
        with pytest.raises(ValueError, match="patch dropout removes tokens"):
            graft(vit, **options)
    graft(vit, "per_layer", length="content").train()
    with record(vit) as records:
        vit(images())
    assert {r.weights.shape[-1] for r in records} == {1 + 7}
    late = graft(small_vit(), "shared", length="interpolate").train()
    late.patch_drop = PatchDropout(0.5)
    with pytest.raises(ValueError, match=r"8 tokens came to the blocks instead of 16 \(1 and a grid of \(3, 5\)\)"):
        late(images())


def test_every_scope_of_layer_masks_is_graftable():
    for scope in ALL_SCOPES:
        assert graft(small_vit(), scope).lcaam.masks.scope == scope
    assert isinstance(graft(small_vit()).lcaam.masks, LayerMasks)


def test_a_graft_without_a_fusion_has_the_one_of_its_kind():
    assert graft(small_vit(), "shared", kind="static").lcaam.fusion is Fusion.add
    assert graft(small_vit(), "shared").lcaam.fusion is Fusion.mul
    assert graft(small_vit(), "none").lcaam.masks.fusion is None
