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
        out, norm = compiled(*inputs, fusion.name, scale, causal, dropout, softcap)
    else:
        seed = int(torch.randint(2**62, ())) if dropout > 0.0 else 0
        out, norm = BlockAttention.apply(*inputs, Settings(fusion, scale, causal, dropout, seed, softcap))
    return (out, norm) if return_lse else out


class BlockAttention(torch.autograd.Function):
    """Output and log-sum-exp, (B, H, N_q, d_v) and (B, H, N_q), with the gradients of both."""

    @staticmethod
    def forward(ctx, query, key, value, left, right, bias, keep, settings):
        out, norm = forward(query, key, value, left, right, bias, keep, settings)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(query, key, value, left, right, bias, keep, out, norm)
        # copies, since the caller may change in place what it gets
        return out.to(query.dtype, copy=True), without_infinity(norm)

    @staticmethod
    def backward(ctx, grad_out, grad_norm):
        *inputs, keep, out, norm = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the gradients themselves are to be differentiated
            grads = gradients_with_graph(inputs, keep, ctx.settings, grad_out, grad_norm)
        else:
            wants_mask = any(ctx.needs_input_grad[3:6])
            grads = gradients(inputs, keep, ctx.settings, out, norm, grad_out, grad_norm, wants_mask)
        return *grads, None, None


def without_infinity(norm: Tensor) -> Tensor:
    """The log-sum-exp as callers know it: (B, H, N_q), -inf for a query without keys."""
    return norm[..., 0].masked_fill(norm[..., 0] == torch.inf, -torch.inf)


# -- under torch.compile ----------------------------------------------------------------------------------------------


def compiled(query, key, value, left, right, bias, keep, fusion, scale, causal, dropout, softcap):
    """The same as one operation that a compiler does not look into: unrolled blocks would take minutes to compile."""
    seed = torch.randint(2**62, ()) if dropout > 0.0 else torch.zeros((), dtype=torch.long)
    settings = (fusion, scale, causal, dropout, softcap)
    out, norm = block_attention(query, key, value, left, right, bias, keep, seed, *settings)
    return out.to(query.dtype), without_infinity(norm)


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
) -> tuple[Tensor, Tensor]:
    settings = Settings(Fusion.parse(fusion), scale, causal, dropout, int(seed), softcap)
    return forward(query, key, value, left, right, bias, keep, settings)


@block_attention.register_fake
def _(query, key, value, left, right, bias, keep, seed, fusion, scale, causal, dropout, softcap):
    like = query.new_empty((), dtype=torch.promote_types(query.dtype, torch.float32))
    return like.new_empty(*query.shape[:3], value.shape[-1]), like.new_empty(*query.shape[:3], 1)


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
    out: Tensor,
    norm: Tensor,
    grad_out: Tensor,
    grad_norm: Tensor | None,
    fusion: str,
    scale: float,
    causal: bool,
    dropout: float,
    softcap: float | None,
) -> list[Tensor]:
    """The gradients of those inputs that are not None."""
    settings = Settings(Fusion.parse(fusion), scale, causal, dropout, int(seed), softcap)
    inputs = (query, key, value, left, right, bias)
    grads = gradients(inputs, keep, settings, out, norm, grad_out, grad_norm, wants_mask=True)
    return [grad for grad in grads if grad is not None]


@block_attention_backward.register_fake
def _(query, key, value, left, right, bias, keep, seed, out, norm, grad_out, grad_norm, *settings):
    return [torch.empty_like(t) for t in (query, key, value, left, right, bias) if t is not None]


def keep_for_backward(ctx, inputs, output) -> None:
    *tensors, ctx.fusion, ctx.scale, ctx.causal, ctx.dropout, ctx.softcap = inputs
    ctx.save_for_backward(*tensors, *output)


def backward(ctx, grad_out, grad_norm):
    *inputs, keep, seed, out, norm = ctx.saved_tensors
    settings = (ctx.fusion, ctx.scale, ctx.causal, ctx.dropout, ctx.softcap)
    grad_norm = None if grad_norm is None else grad_norm[..., 0]
    grads = iter(block_attention_backward(*inputs, keep, seed, out, norm, grad_out, grad_norm, *settings))
    return *(None if tensor is None else next(grads) for tensor in inputs), *([None] * 7)


block_attention.register_autograd(backward, setup_context=keep_for_backward)
