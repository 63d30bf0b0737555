"""Which backend `attention` takes for backend="auto", and why. It changes the cost of a call, never what it can do.

>>> print(explain(q, k, v, mask))
chunked: 834 x 834 pairs in 1 x 12 heads are several blocks: scores stay in the cache, memory flat
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lcaam.backends.triton import refusal
from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.gpu_costs import architecture, fastest, rows_of
from lcaam.transforms import only_the_equation

SEVERAL_BLOCKS = 2**15  # pairs of a query and a key, in one head of one sample
ADDING, MULTIPLYING = 2**22, 2**21  # pairs in all, up to which the equation is faster than blocks
LARGE = 2**27  # pairs in all; half a gibibyte of float32
DENSE = 2**26  # mask values that may be written out for torch's kernel; a quarter of a gibibyte of float32


@dataclass(frozen=True)
class Choice:
    """A backend and the reason for it."""

    backend: str
    reason: str

    def __str__(self) -> str:
        return f"{self.backend}: {self.reason}"


def cheapest(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Mask | None,
    fusion: Fusion,
    dropout: float = 0.0,
    needs_scores: bool = False,
) -> Choice:
    """The backend for these inputs (B, H, N, d), measured by `python -m scripts.benchmark attention`.

    needs_scores: True if torch's own kernel cannot do what is asked for beside the mask (softcap, return_lse).
    """
    if mask is None and not needs_scores:
        return Choice("sdpa", "there is no mask, so this is torch's own attention")
    pairs = query.shape[2] * key.shape[2]
    everything = pairs * query.shape[0] * query.shape[1]
    if torch.compiler.is_compiling():
        if everything > LARGE:
            return Choice("chunked", "compiled, and the scores of all heads would not fit in memory comfortably")
        return Choice("reference", "the compiler fuses the equation better than anything written by hand")
    tensors = [query, key, value, *([] if mask is None else mask.tensors())]
    if only_the_equation(tensors):
        return Choice(
            "reference", "a transform, a trace or a tensor subclass is active: the equation supports them all"
        )
    bias = None if fusion.multiplies or needs_scores else mask  # that torch's kernel can add
    learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if query.device.type == "cpu":
        return cheapest_on_a_cpu(query, key, None if learns or dropout > 0.0 else bias, fusion)
    known = rows_of(query.device)
    if known and mask is not None:
        able = ["chunked", "reference"] if everything <= LARGE else ["chunked"]
        able += ["sdpa"] if bias is not None else []
        able += ["triton"] if refusal(query, key, value, mask, fusion, dropout) is None else []
        return Choice(*fastest(known, able, query.shape[2], everything, fusion, learns))
    remark = "" if query.device.type != "cuda" else f" (no costs of {architecture(query.device)} are known)"
    if bias is not None and fusion.adds_the_mask and bias.factored:
        return Choice("sdpa", f"an additive mask with factors is folded into longer features of torch's kernel{remark}")
    if everything > LARGE:
        return Choice("chunked", f"the scores of all heads would not fit in memory comfortably{remark}")
    if bias is not None:
        return Choice("sdpa", f"the mask is a bias of torch's kernel{remark}")
    return Choice("reference", f"no kernel of torch multiplies scores by a mask{remark}")


def cheapest_on_a_cpu(query: Tensor, key: Tensor, bias: Mask | None, fusion: Fusion) -> Choice:
    """The backend for eager tensors. bias: the mask, if torch's kernel can add it and there are no gradients."""
    pairs = query.shape[2] * key.shape[2]
    everything = pairs * query.shape[0] * query.shape[1]
    if bias is not None and bias.shape.numel() <= DENSE:
        return Choice("sdpa", "without gradients, torch's kernel with the mask as a dense bias is fastest")
    sizes = f"{query.shape[2]} x {key.shape[2]} pairs in {query.shape[0]} x {query.shape[1]} heads"
    if pairs < SEVERAL_BLOCKS or everything <= (MULTIPLYING if fusion.multiplies else ADDING):
        return Choice("reference", f"{sizes} are few: the equation's passes over all of them cost less than blocks do")
    return Choice("chunked", f"{sizes} are several blocks: scores stay in the cache, memory flat")
