"""A small ViT that is not square, and what a grafted one computes, written out."""

import timm
import torch
from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tests.lcaam.loop import equation

TOKENS = 1 + 3 * 5


def small_vit(seed: int = 0, **options) -> VisionTransformer:
    """3 x 5 patches of 4 pixels and a class token, 3 heads, 7 classes; scores large enough for attention to matter."""
    torch.manual_seed(seed)
    sizes = dict(img_size=(12, 20), patch_size=4, embed_dim=12, depth=3, num_heads=3, num_classes=7, mlp_ratio=2)
    vit = VisionTransformer(**sizes | options).eval()
    with torch.no_grad():
        for module in vit.modules():
            if isinstance(module, Attention):
                module.qkv.weight.mul_(20)
    return vit


def images(batch: int = 2, height: int = 12, width: int = 20, seed: int = 1) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def random_masks(vit: nn.Module, seed: int = 2) -> None:
    """Masks that are anything but the identity: values around 0, of either sign."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in vit.lcaam.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)


def written_out(vit: VisionTransformer, x: Tensor, scope: str, fusion: str, **of_mask) -> Tensor:
    """Logits of a grafted ViT of plain Blocks, one equation per line, from its modules; no dropout."""
    x = vit.norm_pre(vit.patch_drop(vit._pos_embed(vit.patch_embed(x))))
    stack_input, nets = x, vit.lcaam.masks.nets
    for number, block in enumerate(vit.blocks):
        mask = nets[number if scope == "per_layer" else 0](stack_input if scope == "shared" else x, **of_mask).dense()
        a, normed = block.attn, block.norm1(x)
        q, k, v = (part.unflatten(-1, (a.num_heads, -1)).transpose(1, 2) for part in a.qkv(normed).chunk(3, -1))
        score = a.q_norm(q) @ a.k_norm(k).transpose(-2, -1) / q.shape[-1] ** 0.5
        attended = equation(fusion)(score, mask).softmax(-1) @ v
        x = x + block.ls1(a.proj(a.norm(attended.transpose(1, 2).flatten(2))))
        x = x + block.ls2(block.mlp(block.norm2(x)))
    return vit.forward_head(vit.norm(x))


def model(name: str, seed: int = 0, **options) -> VisionTransformer:
    """A model of timm's zoo with random weights."""
    torch.manual_seed(seed)
    return timm.create_model(name, pretrained=False, **options).eval()
