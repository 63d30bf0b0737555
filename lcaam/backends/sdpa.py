"""PyTorch's fused attention, for plain attention and for every fusion that adds its term to the score as a bias.

On a GPU, a mask for `add` is folded into longer features: the fused score is (q * scale, h, 1) . (k, w, b), so any
flash kernel serves, nothing of size N_q x N_k is made for the mask, and gradients come for free. On a CPU torch's
kernel takes a dense bias at little cost, and a mask that the heads share is multiplied out once for all of them.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lcaam.backends.reference import dense_in, reference
from lcaam.structure import allowed


def sdpa(query, key, value, mask, fusion, keep, causal, dropout, scale, softcap=None, return_lse=False) -> Any:
    if mask is not None and fusion.multiplies:
        raise ValueError(
            f"backend 'sdpa' cannot compute fusion {fusion.value!r}: it multiplies the score, and torch's fused "
            "attention only adds to it. Use backend='reference', or backend='auto', which picks one that can"
        )
    for name, asked in (("softcap", softcap is not None), ("return_lse", return_lse)):
        if asked:
            raise ValueError(f"backend 'sdpa' has no {name}: use backend='reference', 'chunked' or 'auto'")
    if not (query.numel() and key.numel() and value.numel()):  # torch's kernels give a mask no gradient then
        return reference(query, key, value, mask, fusion, keep, causal, dropout, scale)
    bias = None
    if mask is not None and fusion.adds_the_mask and mask.factored and query.device.type != "cpu":
        query, key = folded(query, key, mask.left, mask.right, mask.bias, scale)
        scale = 1.0
    elif mask is not None and not fusion.ignores_mask:
        bias = fusion.term(dense_in(mask, torch.promote_types(query.dtype, torch.float32)))
        if query.device.type != "cpu":  # whose kernel takes a bias that is wider than the queries
            bias = bias.to(query.dtype)

    keep = allowed(keep, causal, query, key)
    alone = None
    if keep is not None:
        alone = ~keep.any(-1, keepdim=True)
        keep = keep | alone
        bias = keep if bias is None else bias.masked_fill(~keep, -torch.inf)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout, scale=scale)
    return out if alone is None else out.masked_fill(alone, 0.0)


def folded(
    query: Tensor, key: Tensor, left: Tensor, right: Tensor, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Query and key features that contain the additive mask: (B, H, N_q, d + R + 1) and (B, H, N_k, d + R + 1), with
    zeros behind them up to a multiple of 8, the widths that flash kernels take."""
    b, h, n_q, _ = query.shape
    n_k = key.shape[2]
    left, right = left.to(query.dtype).expand(b, h, -1, -1), right.to(key.dtype).expand(b, h, -1, -1)
    queries, keys = [query * scale, left], [key, right]
    if bias is not None:
        queries.append(query.new_ones(()).expand(b, h, n_q, 1))
        keys.append(bias.to(key.dtype).transpose(-2, -1).expand(b, h, n_k, 1))
    if rest := -sum(part.shape[-1] for part in queries) % 8:
        queries.append(query.new_zeros(()).expand(b, h, n_q, rest))
        keys.append(key.new_zeros(()).expand(b, h, n_k, rest))
    return torch.cat(queries, -1), torch.cat(keys, -1)
