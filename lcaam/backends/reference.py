"""The equation, and the judge of every other backend: softmax(score <> mask) V (paper section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.structure import allowed


def scores(
    query: Tensor, key: Tensor, mask: Mask | None, fusion: Fusion, scale: float, softcap: float | None = None
) -> Tensor:
    """Fused scores (B, H, N_q, N_k) before structural masks, at least float32.

    Everything up to here is float32 or wider: a rounded mask value that multiplies a score is no better than a
    rounded score.
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    score = (query.to(dtype) * scale) @ key.to(dtype).transpose(-2, -1)
    if softcap is not None:
        score = softcap * torch.tanh(score / softcap)
    return score if mask is None else fusion(score, dense_in(mask, dtype))


def dense_in(mask: Mask, dtype: torch.dtype) -> Tensor:
    """The mask multiplied out in `dtype`, (B or 1, G, N_q, N_k)."""
    as_it_is = all(tensor.dtype == dtype for tensor in mask.tensors())  # a new Mask costs 20 microseconds
    return (mask if as_it_is else mask.to(dtype)).dense()


def weights(
    query: Tensor,
    key: Tensor,
    mask: Mask | None,
    fusion: Fusion,
    keep: Tensor | None,
    scale: float,
    softcap: float | None = None,
) -> Tensor:
    """Attention weights (B, H, N_q, N_k), at least float32. A query with no key to attend to gets zeros."""
    return normalised(scores(query, key, mask, fusion, scale, softcap), keep)


def normalised(score: Tensor, keep: Tensor | None) -> Tensor:
    if keep is None:
        return score.softmax(-1)
    alone = ~keep.any(-1, keepdim=True)  # rows without any key: a softmax of -inf only would be NaN
    return score.masked_fill(~(keep | alone), -torch.inf).softmax(-1).masked_fill(alone, 0.0)


def reference(
    query, key, value, mask, fusion, keep, causal, dropout, scale, softcap=None, return_lse=False
) -> Tensor | tuple[Tensor, Tensor]:
    score = scores(query, key, mask, fusion, scale, softcap)
    keep = allowed(keep, causal, query, key)
    weight = normalised(score, keep)
    if dropout > 0.0:
        weight = F.dropout(weight, dropout)
    out = (weight @ value.to(weight.dtype)).to(value.dtype)  # (B, H, N_q, d_v)
    return (out, log_sum(score, keep)) if return_lse else out


def log_sum(score: Tensor, keep: Tensor | None) -> Tensor:
    """log of the sum of exp(score) over the keys that are kept, (B, H, N_q); -inf for a query without any."""
    if keep is None:
        return score.logsumexp(-1)
    alone = ~keep.any(-1, keepdim=True)
    return score.masked_fill(~(keep | alone), -torch.inf).logsumexp(-1).masked_fill(alone[..., 0], -torch.inf)
