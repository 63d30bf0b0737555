"""Attention in blocks of query rows: any fusion on any device, without an N_q x N_k tensor in memory.

A block of scores is made, fused, normalised and used up while it is still in the cache; the backward pass makes it
again from the saved log-sum-exp of each row. A mask that all heads share is multiplied out once per block. Memory is
O(block x N_k) beside inputs and outputs; values and gradients are exact. Second derivatives go through the equation,
with its memory.
"""

import torch
from torch import Tensor

from lcaam.backends.passes import Settings, forward, gradients, gradients_with_graph
from lcaam.backends.reference import reference
from lcaam.fusion import Fusion


def chunked(
    query, key, value, mask, fusion, keep, causal, dropout, scale, softcap=None, return_lse=False
) -> Tensor | tuple[Tensor, Tensor]:
    if not (query.numel() and key.numel() and value.numel()):  # there is no block of nothing
        return reference(query, key, value, mask, fusion, keep, causal, dropout, scale, softcap, return_lse)
    left = right = bias = None
    if mask is not None and not fusion.ignores_mask:
        left, right, bias = (mask.left, mask.right, mask.bias) if mask.factored else (None, None, mask.values)
    causal = causal and query.shape[2] > 1
    inputs = (query, key, value, left, right, bias, keep)
    if torch.compiler.is_compiling():
        out, norm = compiled(*inputs, fusion.name, scale, causal, dropout, softcap, return_lse)
    else:
        seed = int(torch.randint(2**62, ())) if dropout > 0.0 else 0
        settings = Settings(fusion, scale, causal, dropout, seed, softcap, return_lse)
        out, norm = BlockAttention.apply(*inputs, settings)
    return (out, norm) if return_lse else out


class BlockAttention(torch.autograd.Function):
    """Output (B, H, N_q, d_v) and log-sum-exp (B, H, N_q), or None if that is not asked for; gradients of both."""

    @staticmethod
    def forward(ctx, query, key, value, left, right, bias, keep, settings):
        out, norm = forward(query, key, value, left, right, bias, keep, settings)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(query, key, value, left, right, bias, keep)
        return out.to(query.dtype), norm

    @staticmethod
    def backward(ctx, grad_out, grad_norm):
        *inputs, keep = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the gradients themselves are to be differentiated
            grads = gradients_with_graph(inputs, keep, ctx.settings, grad_out, grad_norm)
        else:
            grads = gradients(inputs, keep, ctx.settings, grad_out, grad_norm, any(ctx.needs_input_grad[3:6]))
        return *grads, None, None


# -- under torch.compile ----------------------------------------------------------------------------------------------


def compiled(query, key, value, left, right, bias, keep, fusion, scale, causal, dropout, softcap, lse):
    """The same as one operation that a compiler does not look into: unrolled blocks would take minutes to compile."""
    seed = torch.randint(2**62, ()) if dropout > 0.0 else torch.zeros((), dtype=torch.long)
    settings = (fusion, scale, causal, dropout, softcap, lse)
    out, norm = block_attention(query, key, value, left, right, bias, keep, seed, *settings)
    return out.to(query.dtype), norm


@torch.library.custom_op("lcaam::block_attention", mutates_args=())
def block_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    left: Tensor | None,
    right: Tensor | None,
    bias: Tensor | None,
    keep: Tensor | None,
    seed: Tensor,
    fusion: str,
    scale: float,
    causal: bool,
    dropout: float,
    softcap: float | None,
    lse: bool,
) -> tuple[Tensor, Tensor]:
    """Output and log-sum-exp, which is empty, (B, H, 0), if it is not asked for: an operation always has both."""
    settings = Settings(Fusion.parse(fusion), scale, causal, dropout, int(seed), softcap, lse)
    out, norm = forward(query, key, value, left, right, bias, keep, settings)
    return out, out.new_empty(*query.shape[:2], 0) if norm is None else norm


@block_attention.register_fake
def _(query, key, value, left, right, bias, keep, seed, fusion, scale, causal, dropout, softcap, lse):
    like = query.new_empty((), dtype=torch.promote_types(query.dtype, torch.float32))
    norm = like.new_empty(*query.shape[:2], query.shape[2] if lse else 0)
    return like.new_empty(*query.shape[:3], value.shape[-1]), norm


@torch.library.custom_op("lcaam::block_attention_backward", mutates_args=())
def block_attention_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    left: Tensor | None,
    right: Tensor | None,
    bias: Tensor | None,
    keep: Tensor | None,
    seed: Tensor,
    grad_out: Tensor | None,
    grad_norm: Tensor | None,
    fusion: str,
    scale: float,
    causal: bool,
    dropout: float,
    softcap: float | None,
) -> list[Tensor]:
    """The gradients of those inputs that are not None."""
    settings = Settings(Fusion.parse(fusion), scale, causal, dropout, int(seed), softcap, lse=False)
    inputs = (query, key, value, left, right, bias)
    grads = gradients(inputs, keep, settings, grad_out, grad_norm, wants_mask=True)
    return [grad for grad in grads if grad is not None]


@block_attention_backward.register_fake
def _(query, key, value, left, right, bias, keep, seed, grad_out, grad_norm, *settings):
    return [torch.empty_like(t) for t in (query, key, value, left, right, bias) if t is not None]


def keep_for_backward(ctx, inputs, output) -> None:
    *tensors, ctx.fusion, ctx.scale, ctx.causal, ctx.dropout, ctx.softcap, ctx.lse = inputs
    ctx.save_for_backward(*tensors)


def backward(ctx, grad_out, grad_norm):
    *inputs, keep, seed = ctx.saved_tensors
    settings = (ctx.fusion, ctx.scale, ctx.causal, ctx.dropout, ctx.softcap)
    grad_norm = grad_norm if ctx.lse else None
    grads = iter(block_attention_backward(*inputs, keep, seed, grad_out, grad_norm, *settings))
    return *(None if tensor is None else next(grads) for tensor in inputs), *([None] * 8)


block_attention.register_autograd(backward, setup_context=keep_for_backward)
