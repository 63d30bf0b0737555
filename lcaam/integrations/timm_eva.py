"""Attention with rotary embeddings in timm's Eva (EVA02, DINOv3, PE) and NaFlexVit, with lcaam.attention inside.

Queries and keys are rotated as in timm, all but those of the class and register tokens, before the mask meets their
products; so a mask changes scores that know the distance between patches already.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import AttentionRope, apply_rot_embed_cat
from timm.models.eva import EvaAttention
from torch import Tensor

from lcaam.integrations.timm_forward import Attend, attended, finished


class MaskedEvaAttention(EvaAttention):
    """timm's EvaAttention; made from one, with its weights, by changing its class."""

    def forward(self, x: Tensor, rope: Tensor | None = None, attn_mask: Any = None, is_causal: bool = False) -> Tensor:
        """x (B, N, D) -> (B, N, D). Outside a grafted model's forward, without an Attend: what timm's does."""
        if not isinstance(attn_mask, Attend):
            return super().forward(x, rope, attn_mask, **({"is_causal": True} if is_causal else {}))
        return rotated(self, x, rope, attn_mask)


class MaskedAttentionRope(AttentionRope):
    """timm's AttentionRope; made from one, with its weights, by changing its class."""

    def forward(self, x: Tensor, rope: Tensor | None = None, attn_mask: Any = None, is_causal: bool = False) -> Tensor:
        """x (B, N, D) -> (B, N, D). Outside a grafted model's forward, without an Attend: what timm's does."""
        if not isinstance(attn_mask, Attend):
            return super().forward(x, rope, attn_mask, **({"is_causal": True} if is_causal else {}))
        return rotated(self, x, rope, attn_mask)


def rotated(module: Any, x: Tensor, rope: Tensor | None, how: Attend) -> Tensor:
    """The attention of either class. rope: what timm hands down for the patches; None rotates nothing."""
    gate = getattr(module, "gate", None)  # older timm has none
    gate = None if gate is None else gate(x).sigmoid()
    q, k, v = projected(module, x)
    q, k = module.q_norm(q), module.k_norm(k)
    if rope is not None:
        half, prefix = getattr(module, "rotate_half", False), module.num_prefix_tokens
        q, k = (
            torch.cat([t[:, :, :prefix], apply_rot_embed_cat(t[:, :, prefix:], rope, half=half)], dim=2).type_as(v)
            for t in (q, k)
        )
    times = module.num_heads // k.shape[1]  # above 1 for grouped queries
    if times > 1:
        k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
    return finished(module, how, attended(module, how, q, k, v), gate)


def projected(module: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x (B, N, D) -> query (B, H, N, d), key and value (B, H or fewer, N, d)."""
    if module.qkv is None:
        q, k, v = (
            project(x).unflatten(-1, (-1, module.head_dim)).transpose(1, 2)
            for project in (module.q_proj, module.k_proj, module.v_proj)
        )
        return q, k, v
    bias = getattr(module, "q_bias", None)
    if bias is None:
        packed = module.qkv(x)
    else:  # Eva's keys have no bias that is learned
        bias = torch.cat((bias, module.k_bias, module.v_bias))
        packed = module.qkv(x) + bias if module.qkv_bias_separate else F.linear(x, module.qkv.weight, bias)
    q, k, v = packed.unflatten(-1, (3, module.num_heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v
