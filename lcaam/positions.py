"""Positions within attention, as terms of its scores: rotary embeddings and ALiBi, with any mask beside them.

>>> Encoder(64, 2, heads=4, positions="rotary")  # RoPE (Su et al., 2021)
>>> Encoder(64, 2, heads=4, positions="alibi")  # ALiBi (Press et al., ICLR 2022), for causal attention

Both change queries and keys before their products are taken, so every backend computes them, lcaam.analysis.record sees
them, and a mask changes the scores that they are part of. They know distances and nothing else: any length can be
read, and decoding with a Memory gives what the whole sequence gives. Queries are aligned at the end, as in `causal`.
"""

import math

import torch
from torch import Tensor, nn

from lcaam.presets import alibi, positions


class Rotary(nn.Module):
    """Rotates pairs of features by angles that grow with the position: features i and i + d / 2 of a head by the angle
    position / base^(2 i / d).

    head_dim: d, an even number, or ValueError. base: 10,000 as published. Angles are computed in float32 or wider.
    """

    def __init__(self, head_dim: int, base: float = 10_000.0):
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"rotary positions turn pairs of features: a head needs an even number, it has {head_dim}")
        self.head_dim, self.base = head_dim, base

    def forward(self, query: Tensor, key: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
        """query (B, H, N_q, d), key (B, H, N_k, d) -> the same, rotated."""
        places = positions(query.shape[2], key.shape[2], query.device, torch.promote_types(query.dtype, torch.float32))
        return self.rotated(query, places[0]), self.rotated(key, places[1])

    def rotated(self, x: Tensor, places: Tensor) -> Tensor:
        half = self.head_dim // 2
        rate = self.base ** -(torch.arange(half, device=x.device, dtype=places.dtype) / half)
        angle = places[:, None] * rate  # (N, d / 2)
        cosine, sine = angle.cos(), angle.sin()
        first, second = x[..., :half].to(places.dtype), x[..., half:].to(places.dtype)
        return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1).to(x.dtype)


class Alibi(nn.Module):
    """Adds slope_h (j - i) to the scaled score of query i and key j (lcaam.presets.alibi), as two further features.

    heads: H. The features are float32 or wider, so attention computes in that: bfloat16 cannot count to 257.
    """

    def __init__(self, heads: int):
        super().__init__()
        self.heads = heads

    def forward(self, query: Tensor, key: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
        """query (B, H, N_q, d), key (B, H, N_k, d) -> (B, H, N_q, d + 2) and (B, H, N_k, d + 2), whose products, scaled
        by 1 / sqrt(d + 2), are the scores with the bias. ValueError for attention that is not causal."""
        (batch, _, n_q, d), n_k = query.shape, key.shape[2]
        if not causal and n_q > 1:
            raise ValueError("ALiBi is for causal attention, since its bias rises for later keys: it needs causal=True")
        dtype = torch.promote_types(query.dtype, torch.float32)
        bias = alibi(self.heads, n_q, n_k, query.device, dtype)
        left = bias.left.expand(batch, self.heads, n_q, 2) * math.sqrt(d + 2)
        right = bias.right.expand(batch, self.heads, n_k, 2)
        query = query.to(dtype) * math.sqrt((d + 2) / d)
        return torch.cat([query, left], -1), torch.cat([key.to(dtype), right], -1)


POSITIONS = {  # positions within attention, by name
    "rotary": lambda heads, head_dim: Rotary(head_dim),
    "alibi": lambda heads, head_dim: Alibi(heads),
}


def positions_of(name: str | None, heads: int, head_dim: int) -> nn.Module | None:
    """The module that changes queries and keys; None for None. ValueError for an unknown name."""
    if name is None:
        return None
    if name not in POSITIONS:
        raise ValueError(f"unknown positions {name!r}; allowed: None, {', '.join(POSITIONS)}")
    return POSITIONS[name](heads, head_dim)
