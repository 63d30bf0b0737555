"""Fused attention as operations of torch: gradients, torch.compile (one graph, opaque inside), torch.export."""

import torch
from torch import Tensor

from lcaam.backends.passes import Settings, gradients_with_graph
from lcaam.backends.triton.launching import Call
from lcaam.backends.triton.settings import INTERPRETED, atomics
from lcaam.fusion import Fusion
from lcaam.structure import between


@torch.library.custom_op("lcaam::fused_attention", mutates_args=())
def fused_attention(
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
    lower: int | None,
    upper: int | None,
    dropout: float,
    softcap: float | None,
) -> tuple[Tensor, Tensor]:
    """Output (B, H, N_q, d_v) and log-sum-exp (B, H, N_q), float32. bias alone: a mask of values (rank 0).

    key and value may have fewer heads than query. lower, upper: diagonals (launching.Call). seed: the dropout
    pattern's, a tensor () on the CPU.
    """
    tensors = computable(query, key, value, left, right, bias)
    call = Call(tensors, keep, Fusion.parse(fusion), scale, lower, upper, dropout, softcap, int(seed))
    out, lse = call.forward()
    return out.to(query.dtype), lse


@fused_attention.register_fake
def _(query, key, value, left, right, bias, keep, seed, fusion, scale, lower, upper, dropout, softcap):
    out = query.new_empty(*query.shape[:3], value.shape[-1])
    return out, query.new_empty(query.shape[:3], dtype=torch.float32)


@torch.library.custom_op("lcaam::fused_attention_backward", mutates_args=())
def fused_attention_backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    left: Tensor | None,
    right: Tensor | None,
    bias: Tensor | None,
    keep: Tensor | None,
    seed: Tensor,
    out: Tensor,
    lse: Tensor,
    grad_out: Tensor,
    grad_lse: Tensor | None,
    learns: bool,
    fusion: str,
    scale: float,
    lower: int | None,
    upper: int | None,
    dropout: float,
    softcap: float | None,
) -> list[Tensor]:
    """The gradients of query, key, value and, if the mask learns, of those of left, right and bias that are given."""
    inputs = (query, key, value, left, right, bias)
    tensors = computable(*inputs)
    call = Call(tensors, keep, Fusion.parse(fusion), scale, lower, upper, dropout, softcap, int(seed))
    like = tensors[0].dtype
    grads = call.gradients(out.to(like), lse, grad_out.to(like), grad_lse, learns, atomics())
    return [grad.to(of.dtype) for grad, of in zip(grads, inputs, strict=True) if not (grad is None or of is None)]


@fused_attention_backward.register_fake
def _(query, key, value, left, right, bias, keep, seed, out, lse, grad_out, grad_lse, learns, *settings):
    mask = [t for t in (left, right, bias) if t is not None] if learns else []
    return [t.new_empty(t.shape) for t in (query, key, value, *mask)]


def computable(
    query: Tensor, key: Tensor, value: Tensor, left: Tensor | None, right: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The tensors in what the kernels multiply: the factors as wide as the queries, the bias as it is.

    Triton's interpreter multiplies the bits of bfloat16 instead of the numbers, so there it is float32.
    """
    dtype = torch.float32 if INTERPRETED and query.dtype == torch.bfloat16 else query.dtype
    left, right = (None if t is None else t.to(dtype) for t in (left, right))
    bias = bias.float() if INTERPRETED and bias is not None else bias
    return query.to(dtype), key.to(dtype), value.to(dtype), left, right, bias


def remember(ctx, inputs, output) -> None:
    *tensors, ctx.fusion, ctx.scale, ctx.lower, ctx.upper, ctx.dropout, ctx.softcap = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *output)


def backward(ctx, grad_out, grad_lse):
    *inputs, keep, seed, out, lse = ctx.saved_tensors
    settings = (ctx.fusion, ctx.scale, ctx.lower, ctx.upper, ctx.dropout, ctx.softcap)
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # the gradients themselves get gradients
        if ctx.dropout > 0.0:
            raise NotImplementedError(
                "backend 'triton' has no second derivatives with dropout: use backend='chunked' or 'reference'"
            )
        kept = between(ctx.lower, ctx.upper, keep, *inputs[:2])
        how = Settings(Fusion.parse(ctx.fusion), ctx.scale, False, 0.0, 0, ctx.softcap, lse=True)
        grads = gradients_with_graph(inputs, kept, how, grad_out, grad_lse)
        return *grads, *([None] * 8)
    learns = any(ctx.needs_input_grad[3:6])
    grad_out = torch.zeros_like(out) if grad_out is None else grad_out
    grads = iter(fused_attention_backward(*inputs, keep, seed, out, lse, grad_out, grad_lse, learns, *settings))
    wanted = [True] * 3 + [learns] * 3
    found = [next(grads) if want and t is not None else None for want, t in zip(wanted, inputs, strict=True)]
    return *found, *([None] * 8)


fused_attention.register_autograd(backward, setup_context=remember)
