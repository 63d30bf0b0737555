"""Fused attention in Triton: values and gradients of any fusion at the cost of flash attention and one more product.

The tiles of q k^T and of left right^T are made side by side, fused, and used up in registers (forward.py, rows.py,
columns.py), so an N_q x N_k matrix is never in memory, neither of scores nor of the mask. It runs on GPUs, and on a CPU
in Triton's interpreter, slowly, for tests: TRITON_INTERPRET=1 before anything imports Triton.
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from lcaam.backends.reference import reference
from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.structure import allowed, diagonals
from lcaam.transforms import only_the_equation

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
PAIRS = 2**32  # of a query and a key in one head; what a dropout pattern can tell apart


def triton(
    query, key, value, mask, fusion, keep, causal, dropout, scale, softcap=None, return_lse=False, window=None
) -> Any:
    # a compiler could not look into it; what cannot be computed is then refused by the operation itself
    reason = None if torch.compiler.is_compiling() else refusal(query, key, value, mask, fusion, dropout)
    if reason is not None:
        raise ValueError(
            f"backend 'triton' cannot compute this: {reason}. Use backend='auto', which picks one that can"
        )
    if not (query.numel() and key.numel() and value.numel()):  # there is no tile of nothing
        keep, times = allowed(keep, causal, query, key, window), query.shape[1] // max(key.shape[1], 1)
        key, value = (t.repeat_interleave(times, 1) for t in (key, value))
        return reference(query, key, value, mask, fusion, keep, causal, dropout, scale, softcap, return_lse)
    from lcaam.backends.triton.operation import fused_attention
    from lcaam.backends.triton.settings import WIDEST

    left = right = bias = None
    if mask is not None and not fusion.ignores_mask:
        if mask.factored and mask.rank <= WIDEST:
            left, right, bias = mask.left, mask.right, mask.bias
        else:  # a factor wider than the heads costs less multiplied out, once for all heads
            bias = mask.dense()
    limits = diagonals(causal, window, query.shape[2], key.shape[2])
    seed = torch.randint(2**31, ()) if dropout > 0.0 else torch.zeros((), dtype=torch.long)
    settings = (fusion.name, float(scale), *limits, float(dropout), softcap)
    out, lse = fused_attention(query, key, value, left, right, bias, keep, seed, *settings)
    return (out, lse) if return_lse else out


def refusal(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask | None, fusion: Fusion, dropout: float = 0.0
) -> str | None:
    """Why the kernels cannot compute an attention, or None if they can."""
    if find_spec("triton") is None:
        return "the package triton is not installed"
    from lcaam.backends.triton.settings import INTERPRETED, WIDEST
    from lcaam.backends.triton.terms import NoForm, device_functions

    if only_the_equation([query, key, value, *([] if mask is None else mask.tensors())]):
        return "a transform, a trace or a tensor subclass is active"
    if query.device.type != "cuda" and not (INTERPRETED and query.device.type == "cpu"):
        return f"its kernels run on CUDA devices, the tensors are on {query.device.type}"
    if query.dtype not in DTYPES or not query.dtype == key.dtype == value.dtype:
        found = ", ".join(str(t.dtype).removeprefix("torch.") for t in (query, key, value))
        return f"query, key and value must all be float16, bfloat16 or float32, are {found}"
    if max(query.shape[-1], value.shape[-1]) > WIDEST:
        return f"heads are at most {WIDEST} wide, are {query.shape[-1]} and {value.shape[-1]}"
    if dropout >= 1.0:
        return "dropout=1 drops every weight"
    if dropout > 0.0 and query.shape[2] * key.shape[2] > PAIRS:
        return f"{query.shape[2]} x {key.shape[2]} pairs are more than a dropout pattern can tell apart"
    try:
        device_functions(fusion)
    except NoForm as error:
        return str(error)
    return None
