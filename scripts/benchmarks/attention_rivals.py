"""The ways to compute attention with a mask that the attention benchmark compares.

`equation` and `biased` are what a user would write with torch alone; the others call lcaam. A rival is a function of
(query, key, value, left, right, bias) that returns the output, (B, H, N, d).
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lcaam import Mask, attention

Rival = Callable[..., Tensor]
BACKENDS = ("reference", "chunked", "sdpa", "triton", "auto")
RIVALS = {
    "plain": "torch's SDPA without a mask, the limit",
    "dense": "torch's SDPA with the mask as a dense bias",
    "eager": "the equation in torch",
    "compiled": "torch.compile of the equation",
    "flex": "FlexAttention, compiled, with the dense mask as a captured tensor; forward only on a CPU",
    "compiled lcaam": "torch.compile of lcaam.attention",
    **{name: f"lcaam.attention, backend {name!r}" for name in BACKENDS},
}
COMPILED = ("compiled", "flex", "compiled lcaam")
EAGER = ("dense", "eager", "reference", "chunked", "sdpa", "triton")  # what auto could have been
LENGTHS, BATCHES = (50, 128, 197, 300, 400, 834, 2048, 8192), (1, 8)  # what a whole run goes through on a CPU
CPU_RIVALS = tuple(name for name in RIVALS if name != "triton")
GPU_LENGTHS, GPU_BATCHES = (50, 197, 834, 2048, 8192, 32768), (8, 1)
GPU_RIVALS = ("plain", "dense", "reference", "chunked", "sdpa", "triton", "flex", "auto")
FUSIONS = ("add", "mul", "gate", "temper")
ADDING = ("add", "gate")  # fusions that a bias can express


def plain(query, key, value, left, right, bias) -> Tensor:
    flash = query.is_cuda and query.dtype != torch.float32
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION) if flash else nullcontext():
        return F.scaled_dot_product_attention(query, key, value)


def dense(left: Tensor, right: Tensor, bias: Tensor) -> Tensor:
    """The mask multiplied out, (B, 1, N, N)."""
    return left @ right.transpose(-2, -1) + bias


def fused(score: Tensor, mask: Tensor, fusion: str) -> Tensor:
    if fusion == "add":
        return score + mask
    if fusion == "mul":
        return score * mask
    return score + F.logsigmoid(mask) if fusion == "gate" else score * F.softplus(mask)


def equation(query, key, value, left, right, bias, fusion: str) -> Tensor:
    score = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
    return fused(score, dense(left, right, bias), fusion).softmax(-1) @ value


def biased(query, key, value, left, right, bias, fusion: str) -> Tensor:
    mask = dense(left, right, bias)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask if fusion == "add" else F.logsigmoid(mask))


def of_lcaam(query, key, value, left, right, bias, fusion: str, backend: str) -> Tensor:
    return attention(query, key, value, Mask(left, right, bias), fusion=fusion, backend=backend)


def flexible(fusion: str) -> Rival:
    """FlexAttention; the mask is made outside, since a product inside a score function does not compile."""
    from torch.nn.attention.flex_attention import flex_attention

    def run(query, key, value, mask) -> Tensor:
        def score_mod(score, sample, head, row, column):
            return fused(score, mask[sample, row, column], fusion)

        return flex_attention(query, key, value, score_mod=score_mod)

    inner = torch.compile(run, fullgraph=True, dynamic=False)
    return lambda query, key, value, *factors: inner(query, key, value, dense(*factors)[:, 0].contiguous())


def build(name: str, fusion: str) -> Rival:
    """The rival called `name`. Compiled ones are compiled at their first call, for its sizes."""
    if name == "plain":
        return plain
    if name == "flex":
        return flexible(fusion)
    if name in ("compiled", "compiled lcaam"):
        run, last = (equation, ()) if name == "compiled" else (of_lcaam, ("auto",))
        return torch.compile(lambda *leaves: run(*leaves, fusion, *last), fullgraph=True, dynamic=False)
    if name in BACKENDS:
        return lambda *leaves: of_lcaam(*leaves, fusion, name)
    return lambda *leaves: (biased if name == "dense" else equation)(*leaves, fusion)
