"""The equation, and the judge of every other backend: softmax(score <> mask) V (paper section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.structure import allowed


def weights(query: Tensor, key: Tensor, mask: Mask | None, fusion: Fusion, keep: Tensor | None, scale: float) -> Tensor:
    """Attention weights (B, H, N_q, N_k), at least float32. A query with no key to attend to gets zeros."""
    score = (query * scale) @ key.transpose(-2, -1)  # (B, H, N_q, N_k)
    score = score.to(torch.promote_types(score.dtype, torch.float32))
    if mask is not None:
        score = fusion(score, mask.dense().to(score.dtype))
    if keep is None:
        return score.softmax(-1)
    alone = ~keep.any(-1, keepdim=True)  # rows without any key: a softmax of -inf only would be NaN
    return score.masked_fill(~(keep | alone), -torch.inf).softmax(-1).masked_fill(alone, 0.0)


def reference(query, key, value, mask, fusion, keep, causal, dropout, scale) -> Tensor:
    weight = weights(query, key, mask, fusion, allowed(keep, causal, query, key), scale)
    if dropout > 0.0:
        weight = F.dropout(weight, dropout)
    return weight.to(value.dtype) @ value  # (B, H, N_q, d_v)
