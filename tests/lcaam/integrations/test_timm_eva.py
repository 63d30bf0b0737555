"""Masks in timm's Eva (EVA02, DINOv3, PE) and NaFlexVit: the equation on rotated queries and keys."""

import copy
import pickle

import pytest
import timm
import torch
from timm.models.eva import Eva
from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg
from torch import nn

from lcaam.analysis import record
from lcaam.integrations.timm import graft, ungraft
from tests.lcaam.integrations.small_vit import images, random_masks
from tests.lcaam.loop import equation
from tests.lcaam.names import FUSIONS, SCOPES

SIZES = dict(img_size=(12, 20), patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=7, mlp_ratio=2)
DINOV3 = dict(rope_type="dinov3", use_rot_pos_emb=True, use_abs_pos_emb=False, rope_rotate_half=True, num_reg_tokens=2)
EVAS = {
    "positions only": dict(),
    "eva02": dict(qkv_fused=False, swiglu_mlp=True, scale_mlp=True, use_rot_pos_emb=True, ref_feat_shape=(4, 4)),
    "norm of the output": dict(scale_attn_inner=True, use_rot_pos_emb=True),
    "post-norm": dict(use_post_norm=True),
    "dinov3": dict(DINOV3, qkv_bias=False, init_values=0.5, use_fc_norm=False, global_pool="avg"),
    "pe": dict(attn_type="rope", use_rot_pos_emb=True, use_pre_transformer_norm=True, global_pool="avg"),
    "mixed": dict(attn_type="rope", rope_type="mixed", use_rot_pos_emb=True, qkv_fused=False),
    "registers": dict(num_reg_tokens=3, no_embed_class=True, use_rot_pos_emb=True, class_token=False),
    "any size": dict(dynamic_img_size=True, use_rot_pos_emb=True),
}


def lively(model):
    """Weights large enough for attention, and every bias, to matter."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gamma" in name:
                parameter.fill_(0.7)
            elif "norm" not in name and parameter.dim() == 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
            elif ".attn." in name or name == "head.weight":
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model.eval()


def eva(variant="dinov3", seed=0, **options):
    torch.manual_seed(seed)
    return lively(Eva(**SIZES | EVAS[variant] | options))


def naflex(seed=0, **options):
    torch.manual_seed(seed)
    sizes = {name: SIZES[name] for name in ("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")}
    settings = dict(class_token=True, global_pool="token", pos_embed_grid_size=(4, 4))
    return lively(NaFlexVit(NaFlexVitCfg(**sizes | settings | options), num_classes=7))


def close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


# -- Eva --------------------------------------------------------------------------------------------------------------


def added(vit, x, scope, fusion):
    """Logits by timm's own blocks, whose attn_mask adds the masks' terms to the scores."""
    nets = vit.lcaam.masks.nets
    x, rope = vit._pos_embed(vit.patch_embed(x))
    first = x = vit.norm_pre(x)
    plain = ungraft(copy.deepcopy(vit))
    for number, block in enumerate(plain.blocks):
        mask = nets[number if scope == "per_layer" else 0](first if scope == "shared" else x).dense()
        term = equation(fusion)(torch.zeros(()), mask)
        x = block(x, rope=rope[number] if vit.rope_mixed and rope is not None else rope, attn_mask=term)
    return plain.forward_head(plain.norm(x))


@pytest.mark.parametrize("variant", EVAS)
def test_identity_masks_leave_an_eva_and_random_ones_are_timms_additive_masks(variant):
    vit = eva(variant)
    names, plain = list(vit.state_dict()), vit(images())
    for scope, fusion in (("shared", "gate"), ("tied", "mul"), ("per_layer", "add")):
        graft(vit, scope, fusion, hidden=5)
        close(vit(images()), plain)
        assert [name for name in vit.state_dict() if not name.startswith("lcaam.")] == names
        random_masks(vit)
        found = vit(images())
        assert (found - plain).abs().max() > 1e-2
        if fusion != "mul":
            close(found, added(vit, images(), scope, fusion), atol=3e-5)
        assert ungraft(vit) is vit and type(vit) is Eva
        assert torch.equal(vit(images()), plain) and list(vit.state_dict()) == names


def rotation(x, rope, half):
    sine, cosine = rope.chunk(2, -1)
    if half:
        left, right = x.chunk(2, -1)
        turned = torch.cat([-right, left], -1)
    else:
        turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
    return x * cosine + turned * sine


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("variant", ["eva02", "norm of the output", "dinov3", "pe", "mixed"])
def test_one_rotary_attention_is_the_equation(variant, fusion):
    vit = eva(variant, depth=1)
    prefix = vit.num_prefix_tokens
    graft(vit, "shared", fusion, groups=3)
    random_masks(vit)
    x, rope = vit._pos_embed(vit.patch_embed(images()))
    x = vit.norm_pre(x)
    mask, block = vit.lcaam.masks(x).dense(), vit.blocks[0]
    a, normed = block.attn, block.norm1(x)
    if a.qkv is None:
        q, k, v = (project(normed) for project in (a.q_proj, a.k_proj, a.v_proj))
    else:
        bias = 0 if getattr(a, "q_bias", None) is None else torch.cat([a.q_bias, 0 * a.q_bias, a.v_bias])
        q, k, v = (a.qkv(normed) + bias).chunk(3, -1)
    q, k, v = (t.unflatten(-1, (3, -1)).transpose(1, 2) for t in (q, k, v))
    rope = rope[0] if variant == "mixed" else rope
    q, k = (torch.cat([t[:, :, :prefix], rotation(t[:, :, prefix:], rope, a.rotate_half)], 2) for t in (q, k))
    weight = equation(fusion)(q @ k.transpose(2, 3) / 8**0.5, mask).softmax(-1)
    out = a.proj(a.norm((weight @ v).transpose(1, 2).flatten(2)))
    x = x + (out if block.gamma_1 is None else block.gamma_1 * out)
    out = block.mlp(block.norm2(x))
    x = x + (out if block.gamma_2 is None else block.gamma_2 * out)
    close(vit.forward_features(images()), vit.norm(x), atol=3e-5)


@pytest.mark.parametrize("scope", SCOPES)
def test_every_parameter_of_an_evas_masks_learns(scope):
    vit = graft(eva("eva02"), scope).train()
    optimizer = torch.optim.AdamW(vit.parameters(), lr=1e-3)
    moving = set()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(vit(images(8)), torch.arange(8) % 7).backward()
        moving |= {name for name, p in vit.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
    assert not [name for name, _ in vit.named_parameters() if name not in moving]


@pytest.mark.parametrize("variant", ["dinov3", "mixed"])
def test_every_way_through_an_eva_has_the_masks(variant):
    vit = graft(eva(variant), "shared", hidden=5)
    random_masks(vit)
    features = vit.forward_features(images())
    last, (first, _) = vit.forward_intermediates(images())
    assert torch.equal(last, features)
    _, (stopped,) = vit.forward_intermediates(images(), indices=[0], stop_early=True)
    assert torch.equal(stopped, first)
    keep = torch.rand(features.shape[1], features.shape[1], generator=torch.Generator().manual_seed(0)) > 0.3
    keep |= torch.eye(len(keep), dtype=torch.bool)
    with record(vit) as calls:
        vit(images(), attn_mask=keep)
    assert len(calls) == 2 and not any(call.weights[..., ~keep].any() for call in calls)
    with pytest.raises(ValueError, match="attn_mask of a grafted model must be bool"):
        vit(images(), attn_mask=keep.float())
    for twin in (copy.deepcopy(vit), pickle.loads(pickle.dumps(vit))):
        assert torch.equal(twin.forward_features(images()), features)
    grads = []
    for checkpointing in (False, True):
        vit.set_grad_checkpointing(checkpointing)
        vit.zero_grad()
        vit.train()(images()).square().sum().backward()
        grads.append([p.grad for p in vit.lcaam.parameters()])
    for plain, checkpointed in zip(*grads, strict=True):
        assert plain.any()
        torch.testing.assert_close(checkpointed, plain)


def test_an_eva_at_another_size_needs_masks_for_it():
    vit, larger = graft(eva("any size"), "shared", hidden=5), images(height=16, width=24)
    with pytest.raises(ValueError, match=r"made for a grid of \(3, 5\) patches, and these images have \(4, 6\)"):
        vit(larger)
    for length in ("interpolate", "content"):
        vit = eva("any size")
        plain = vit(larger)
        close(graft(vit, "per_layer", length=length)(larger), plain)
    with pytest.raises(ValueError, match="patch dropout removes tokens"):
        graft(eva(patch_drop_rate=0.5))
    vit = graft(eva(patch_drop_rate=0.5), length="content").train()
    with record(vit) as calls:
        vit(images())
    assert {call.weights.shape[-1] for call in calls} == {3 + 7}


def test_grouped_queries_of_an_eva():
    try:
        vit = eva("pe", num_heads=4, num_kv_heads=2, qkv_fused=False, embed_dim=32)
    except TypeError:
        pytest.skip("this timm has no grouped queries")
    plain = vit(images())
    graft(vit, groups=4)
    close(vit(images()), plain)
    random_masks(vit)
    assert (vit(images()) - plain).abs().max() > 1e-2


def test_what_an_eva_cannot_have_is_refused():
    with pytest.raises(ValueError, match="extra_layers are pre-norm Blocks; this model has EvaBlock"):
        graft(eva(), "per_layer", depth=9, control="extra_layers")
    with pytest.raises(ValueError, match="ungraft, init_weights, graft"):
        graft(eva()).init_weights()


# -- NaFlexVit --------------------------------------------------------------------------------------------------------

COMPLETE = hasattr(NaFlexVitCfg, "use_key_only_attn_mask")  # timm 1.0.26 has a NaFlexVit, but some of it fails
NAFLEXES = {
    "learned": dict(reg_tokens=2),
    "axial": dict(rope_type="axial", pos_embed="none", global_pool="avg"),
    "pre-norm": dict(pre_norm=True),
    "eva": dict(attn_type="eva", swiglu_mlp=True, qk_norm=True, pos_embed="factorized", global_pool="avg"),
}
if COMPLETE:
    NAFLEXES["key-only masks"] = dict(use_key_only_attn_mask=True)
    NAFLEXES["mixed"] = dict(rope_type="mixed", pos_embed="none")


def batch_of_two():
    """A picture of 3 x 5 patches and one of 2 x 4 with padding behind."""
    generator = torch.Generator().manual_seed(1)
    patches, valid, places = torch.randn(2, 15, 48, generator=generator), torch.ones(2, 15, dtype=torch.bool), []
    valid[1, 8:] = False
    for rows, columns in ((3, 5), (2, 4)):
        place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1).flatten(0, 1)
        places.append(nn.functional.pad(place, (0, 0, 0, 15 - len(place))))
    return dict(patches=patches, patch_coord=torch.stack(places), patch_valid=valid)


@pytest.mark.parametrize("variant", NAFLEXES)
@pytest.mark.parametrize("scope", SCOPES)
def test_identity_masks_leave_a_naflexvit_and_random_ones_change_it(variant, scope):
    vit, batch = naflex(**NAFLEXES[variant]), batch_of_two()
    names, plain = list(vit.state_dict()), (vit(batch), vit(images()))
    for fusion in FUSIONS:
        graft(vit, scope, fusion, length="content", hidden=5)
        for inputs, expected in zip((batch, images()), plain, strict=True):
            close(vit(inputs), expected)
        random_masks(vit)
        found = vit(batch)
        assert (found - plain[0]).abs().amax(1).min() > 1e-2
        other = dict(batch, patches=batch["patches"].masked_fill(~batch["patch_valid"][..., None], 3.0))
        close(vit(other), found)
        ungraft(vit)
        assert list(vit.state_dict()) == names and torch.equal(vit(batch), plain[0])


def test_a_padded_image_of_a_naflexvit_is_the_image_alone():
    vit, batch = graft(naflex(), "per_layer", length="content", hidden=5), batch_of_two()
    random_masks(vit)
    alone = {name: value[1:, :8] for name, value in batch.items()}
    close(vit(alone), vit(batch)[1:])
    features = vit.forward_features(**batch)["patches"]
    if COMPLETE:
        intermediates = vit.forward_intermediates(batch, output_fmt="NLC", norm=True)[1]
        assert torch.equal(intermediates[-1], features[:, 1:])
    keep = torch.ones(16, 16, dtype=torch.bool).tril()
    with record(vit) as calls:
        vit(dict(batch, attn_mask=keep))
    assert len(calls) == 2 and not any(call.weights[..., ~keep].any() for call in calls)
    for twin in (copy.deepcopy(vit), pickle.loads(pickle.dumps(vit))):
        assert torch.equal(twin(batch), vit(batch))


def test_every_parameter_of_a_naflexvits_masks_learns():
    vit, batch = graft(naflex(patch_drop_rate=0.3), "per_layer", length="content").train(), batch_of_two()
    optimizer = torch.optim.AdamW(vit.parameters(), lr=1e-3)
    moving = set()
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(vit(batch), torch.arange(2)).backward()
        moving |= {name for name, p in vit.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
    assert not [name for name, _ in vit.lcaam.named_parameters(prefix="lcaam") if name not in moving]


def test_masks_of_positions_are_refused_for_a_naflexvit():
    vit = naflex()
    for options in (dict(), dict(length="interpolate"), dict(kind="static", fusion="add")):
        with pytest.raises(ValueError, match=r"NaFlexVit have their own: use length='content'"):
            graft(vit, **options)
        assert type(vit) is NaFlexVit and not hasattr(vit, "lcaam")
    with record(graft(vit, "none")) as calls:
        vit(batch_of_two())
    assert [call.mask for call in calls] == [None, None]
    with pytest.raises(TypeError, match="class DiffAttention is not supported"):
        graft(timm.create_model("naflexvit_base_patch16_gap", depth=1, embed_dim=24, num_heads=2, attn_layer="diff"))
