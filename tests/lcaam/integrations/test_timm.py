"""graft and ungraft: which function a timm ViT computes with masks, and what of it stays as it was."""

import pytest
import torch
from timm.layers import Attention
from timm.models.vision_transformer import (
    Block,
    ParallelThingsBlock,
    ResPostBlock,
    VisionTransformer,
)

from lcaam.analysis import record
from lcaam.integrations.timm import graft, ungraft
from tests.lcaam.integrations.small_vit import (
    TOKENS,
    images,
    model,
    random_masks,
    small_vit,
    written_out,
)
from tests.lcaam.names import FUSIONS, SCOPES

FULL = {
    "vit_base_patch16_224": {},
    "deit_small_patch16_224": {},
    "vit_small_patch14_reg4_dinov2": {"img_size": 224},
    "vit_base_patch16_384": {},
}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("fusion", ["none", *FUSIONS])
def test_a_grafted_vit_computes_the_equation(fusion, scope):
    vit = graft(small_vit(), scope, fusion, hidden=5)
    random_masks(vit)
    expected = written_out(vit, images(), scope, fusion)
    torch.testing.assert_close(vit(images()), expected, rtol=0, atol=2e-5)
    unmasked = ungraft(vit)(images())
    assert (expected - unmasked).abs().max() > 1e-2 or fusion == "none"


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_its_gradients_are_the_equations(fusion, scope):
    vit, x = graft(small_vit(), scope, fusion, hidden=5).double(), images().double()
    random_masks(vit)
    grads = [
        torch.autograd.grad(out.square().sum(), list(vit.parameters()))
        for out in (vit(x), written_out(vit, x, scope, fusion))
    ]
    for (name, _), found, expected in zip(vit.named_parameters(), *grads, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10, msg=name)


VARIANTS = {
    "norms and layer scale": dict(qk_norm=True, scale_attn_norm=True, init_values=0.5),
    "no class token": dict(class_token=False, global_pool="avg"),
    "registers": dict(reg_tokens=3, no_embed_class=True),
    "norm before the blocks": dict(pre_norm=True),
    "attention pooling": dict(global_pool="map"),
    "no positions": dict(pos_embed="none"),
}


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_of_vit_computes_the_equation(variant, groups):
    for scope in ("shared", "per_layer"):
        vit = graft(small_vit(**VARIANTS[variant]), scope, "mul", rank=2, groups=groups)
        random_masks(vit)
        torch.testing.assert_close(vit(images()), written_out(vit, images(), scope, "mul"), rtol=0, atol=2e-5)


@pytest.mark.parametrize("block", [Block, ResPostBlock, ParallelThingsBlock])
@pytest.mark.parametrize("fused", [True, False])
def test_without_masks_it_is_timms_to_the_bit(block, fused):
    vit = small_vit(block_fn=block)
    for module in vit.modules():
        if isinstance(module, Attention):
            module.fused_attn = fused
    expected = vit(images())
    assert torch.equal(graft(vit, "none")(images()), expected)
    ungraft(vit)
    assert torch.equal(graft(vit, "shared", "none")(images()), expected)
    ungraft(vit)
    torch.testing.assert_close(graft(vit, "per_layer", "mul")(images()), expected, rtol=0, atol=1e-5)


def test_without_masks_dropout_is_timms_to_the_bit():
    vit = small_vit(attn_drop_rate=0.3, proj_drop_rate=0.2, drop_path_rate=0.2, pos_drop_rate=0.1).train()
    torch.manual_seed(3)
    expected = vit(images())
    torch.manual_seed(3)
    assert torch.equal(graft(vit, "none")(images()), expected)


def check_zoo_model(name, options, fusions, scopes):
    vit = model(name, **options)
    x = images(1, *vit.patch_embed.img_size)
    with torch.no_grad():
        expected = vit(x)
        assert torch.equal(graft(vit, "none")(x), expected)
        ungraft(vit)
        for fusion in fusions:
            for scope in scopes:
                graft(vit, scope, fusion, hidden=96)
                torch.testing.assert_close(vit(x), expected, rtol=0, atol=1e-5)
                assert torch.equal(ungraft(vit)(x), expected)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_identity_masks_leave_the_outputs(name):
    check_zoo_model(name, {"depth": 4}, ["none", *FUSIONS], ["shared", "per_layer"])


def test_identity_masks_leave_a_register_models_outputs():
    check_zoo_model(
        "vit_small_patch14_reg4_dinov2", {"img_size": 112, "depth": 3}, ["none", *FUSIONS], ["shared", "per_layer"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", FULL)
def test_identity_masks_leave_the_outputs_at_full_size(name):
    check_zoo_model(name, FULL[name], ["none", *FUSIONS], ["shared", "per_layer"])


def test_a_384_pixel_model_keeps_its_outputs():
    check_zoo_model(
        "vit_base_patch16_384", {"depth": 1}, ["add", "mul"], ["shared"]
    )  # 577 tokens: several blocks of rows


# -- what stays, and what comes back ----------------------------------------------------------------------------------


def test_weights_keep_their_names_and_a_checkpoint_loads():
    plain = small_vit(seed=5)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    vit = graft(small_vit(), "per_layer")
    new = set(vit.state_dict()) - set(before)
    assert set(before) < set(vit.state_dict()) and all(name.startswith("lcaam.") for name in new)
    missing, unexpected = vit.load_state_dict(before, strict=False)
    assert set(missing) == new and not unexpected
    torch.testing.assert_close(vit(images()), plain(images()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"control": "extra_layers"}, {"control": "extra_linear"}, {"kind": "static"}])
def test_ungraft_leaves_no_trace(options):
    vit, x = small_vit(), images()
    expected = vit(x)
    shape = [
        (name, type(module), sorted(module.__dict__), list(module._modules)) for name, module in vit.named_modules()
    ]
    parameters = [(name, id(parameter)) for name, parameter in vit.named_parameters()]
    fusion = "add" if "kind" in options else "mul"
    assert graft(vit, "per_layer", fusion, **{"depth": 9, **options}) is vit
    assert ungraft(vit) is vit
    after = [
        (name, type(module), sorted(module.__dict__), list(module._modules)) for name, module in vit.named_modules()
    ]
    assert after == shape
    assert [(name, id(parameter)) for name, parameter in vit.named_parameters()] == parameters
    assert torch.equal(vit(x), expected)
    with pytest.raises(ValueError, match="VisionTransformer has no graft"):
        ungraft(vit)


def test_a_class_of_ones_own_comes_back():
    class MyViT(VisionTransformer):
        def forward_head(self, x, pre_logits=False):
            return super().forward_head(x, pre_logits) + 1

    vit = MyViT(img_size=8, patch_size=4, embed_dim=8, depth=1, num_heads=2, num_classes=3).eval()
    x = images(1, 8, 8)
    expected = vit(x)
    torch.testing.assert_close(graft(vit)(x), expected, rtol=0, atol=1e-5)
    assert isinstance(vit, MyViT) and type(ungraft(vit)) is MyViT


def test_timms_own_recipes_find_their_groups():
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay

    vit = graft(small_vit(), "per_layer")
    assert vit.no_weight_decay() == small_vit().no_weight_decay()
    plain, decayed = param_groups_weight_decay(vit, 0.1, vit.no_weight_decay())
    assert plain["weight_decay"] == 0 and any(p is vit.lcaam.masks.nets[0].last.bias for p in plain["params"])
    assert any(p is vit.lcaam.masks.nets[0].last.weight for p in decayed["params"])
    groups = param_groups_layer_decay(vit, 0.1, vit.no_weight_decay(), layer_decay=0.5)
    (scale,) = {g["lr_scale"] for g in groups if any(p is vit.lcaam.masks.nets[0].last.weight for p in g["params"])}
    assert scale == 1.0
    assert sum(len(g["params"]) for g in groups) == len(list(vit.parameters()))


def test_device_precision_and_mode_are_the_models():
    vit = graft(small_vit().double().train(), "per_layer", control="extra_layers", depth=9)
    assert {p.dtype for p in vit.parameters()} == {torch.float64}
    assert all(module.training for module in vit.modules())
    with torch.device("meta"):
        meta = small_vit()
    assert {p.device.type for p in graft(meta, "shared").parameters()} == {"meta"}


def test_record_sees_every_block():
    vit = graft(small_vit(), "shared", "mul")
    random_masks(vit)
    with record(vit) as records:
        vit(images())
    assert [r.name for r in records] == [f"blocks.{number}.attn" for number in range(3)]
    x = vit.norm_pre(vit._pos_embed(vit.patch_embed(images())))
    for r in records:
        torch.testing.assert_close(r.mask, vit.lcaam.masks.nets[0](x).dense())
        torch.testing.assert_close(r.weights.sum(-1), torch.ones(2, 3, TOKENS))
    ungraft(vit)
    graft(vit, "none")
    with record(vit) as records:
        vit(images())
    assert len(records) == 3 and all(r.mask is None for r in records)
