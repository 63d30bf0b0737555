"""graft on models of timm's zoo, shortened: the start, an effect, every gradient, saving, and the way back."""

import copy

import pytest
import timm
import torch
from torch import nn

from lcaam.integrations.timm import graft, ungraft
from tests.lcaam.integrations.small_vit import random_masks
from tests.tiers import slow

SIZE_32, SIZE_28 = dict(img_size=32), dict(img_size=28)
ZOO = {
    "vit_tiny_patch16_224": SIZE_32,
    "vit_small_r26_s32_224": dict(img_size=64),
    "vit_wee_patch16_reg1_gap_256": SIZE_32,
    "vit_medium_patch16_reg4_gap_256": SIZE_32,
    "vit_so150m2_patch16_reg1_gap_256": SIZE_32,
    "vit_small_patch16_18x2_224": SIZE_32,
    "vit_base_patch16_clip_quickgelu_224": SIZE_32,
    "vit_small_patch14_dinov2": SIZE_28,
    "vit_small_patch14_reg4_dinov2": SIZE_28,
    "vit_intern300m_patch14_448": SIZE_28,
    "deit_tiny_distilled_patch16_224": SIZE_32,
    "deit3_small_patch16_224": SIZE_32,
    "flexivit_small": SIZE_32,
    "test_vit": SIZE_32,
    "eva02_tiny_patch14_224": SIZE_28,
    "eva02_enormous_patch14_clip_224": dict(SIZE_28, embed_dim=64, num_heads=4),
    "vit_small_patch16_dinov3": SIZE_32,
    "vit_pe_core_tiny_patch16_384": SIZE_32,
    "vit_small_patch16_rope_mixed_224": SIZE_32,
    "naflexvit_base_patch16_gap": dict(embed_dim=192, num_heads=3),
}


def zoo_model(name):
    """The model with two blocks, random weights and 7 classes, in which attention matters."""
    torch.manual_seed(0)
    options = ZOO[name] if name == "test_vit" else ZOO[name] | dict(depth=2)
    vit = timm.create_model(name, pretrained=False, num_classes=7, **options).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter_name, parameter in vit.named_parameters():
            if "gamma" in parameter_name:  # layer scales: next to nothing at the start
                parameter.fill_(1.0)
            elif parameter_name.startswith("head") and parameter.dim() == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
            elif any(part in parameter_name for part in ("qkv.weight", "q_proj.weight", "k_proj.weight")):
                parameter.mul_(4)
    return vit


def test_the_zoo_has_twenty_models():
    assert len(ZOO) == 20


@pytest.mark.parametrize("name", [slow(name) for name in ZOO])
def test_graft_on_a_model_of_the_zoo(name, tmp_path):
    vit, side = zoo_model(name), ZOO[name].get("img_size", 32)
    x = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(2))
    names, plain = list(vit.state_dict()), vit(x)
    length = "content" if name.startswith("naflex") else "fixed"
    for scope, fusion in (("shared", "mul"), ("per_layer", "add"), ("tied", "gate")):
        graft(vit, scope, fusion, hidden=16, length=length)
        torch.testing.assert_close(vit(x), plain, rtol=0, atol=1e-5)
        assert [each for each in vit.state_dict() if not each.startswith("lcaam.")] == names
        trained = copy.deepcopy(vit).train()
        optimizer = torch.optim.SGD(trained.lcaam.parameters(), lr=1.0)
        moving = set()
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(trained(x), torch.arange(4)).backward()
            moving |= {each for each, p in trained.lcaam.named_parameters() if p.grad is not None and p.grad.any()}
            optimizer.step()
        assert moving == {each for each, _ in trained.lcaam.named_parameters()}
        random_masks(vit)
        masked = vit(x)
        assert (masked - plain).abs().max() > 1e-3
        torch.save(vit.state_dict(), tmp_path / "saved.pt")
        again = graft(zoo_model(name), scope, fusion, hidden=16, length=length)
        random_masks(again, seed=9)
        again.load_state_dict(torch.load(tmp_path / "saved.pt", weights_only=True))
        assert torch.equal(again(x), masked)
        ungraft(vit)
        assert list(vit.state_dict()) == names and torch.equal(vit(x), plain)
