"""The forward and the backward pass of attention in blocks, and its second derivatives."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lcaam.backends.blocks import Block, BlockMask, blocks
from lcaam.backends.reference import log_sum, normalised, scores
from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.structure import allowed


@dataclass(frozen=True)
class Settings:
    fusion: Fusion
    scale: float
    causal: bool
    dropout: float
    seed: int  # of the dropout pattern, which the backward pass draws again
    softcap: float | None
    lse: bool  # the log-sum-exp is wanted, too


def forward(query, key, value, left, right, bias, keep, settings: Settings) -> tuple[Tensor, Tensor | None]:
    """Output (B, H, N_q, d_v) and, if it is asked for, log-sum-exp (B, H, N_q), -inf for a query without keys.

    Both are at least float32.
    """
    q, k, v = prepare(query, key, value, settings.scale)
    out = q.new_empty(*q.shape[:3], v.shape[-1])
    norm = q.new_empty(*q.shape[:3], 1) if settings.lse else None
    for block in blocks(q, k, left, right, bias, settings.causal):
        mask = BlockMask(block, left, right, bias, keep, settings.fusion, q)
        for heads in block.heads:
            score = torch.bmm(block.rows_of(q, heads), block.keys_of(k, heads).transpose(1, 2))
            if settings.softcap is not None:
                score = capped_(score, settings.softcap)
            score = mask.fuse(score, heads, out=score)
            top = None if norm is None else score.amax(-1, keepdim=True)
            weights = softmax_(score)
            if norm is not None and top is not None:  # the largest weight is 1 / sum(exp(score - top))
                top -= weights.amax(-1, keepdim=True).log_()
                block.rows_of(norm, heads).copy_(mask.without_keys(top, heads, -torch.inf))
            if settings.dropout > 0.0:
                weights *= pattern(weights, settings, block, heads)
            part = torch.bmm(weights, block.keys_of(v, heads))
            block.rows_of(out, heads).copy_(mask.without_keys(part, heads, 0.0))
    return out, None if norm is None else norm[..., 0]


def gradients(
    inputs, keep, settings: Settings, grad_out: Tensor | None, grad_norm: Tensor | None, wants_mask: bool
) -> list[Tensor | None]:
    """Gradients of query, key, value, left, right and bias; None for what is None."""
    query, key, value, left, right, bias = inputs
    q, k, v = prepare(query, key, value, settings.scale)
    d_out = q.new_zeros(*q.shape[:3], v.shape[-1]) if grad_out is None else grad_out.to(q.dtype).contiguous()
    d_norm = None if grad_norm is None else grad_norm.to(q.dtype).unsqueeze(-1).contiguous()
    d_q, d_k, d_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
    factors = [None if t is None else torch.zeros_like(t, dtype=q.dtype) for t in (left, right, bias)]
    for block in blocks(q, k, left, right, bias, settings.causal):
        mask = BlockMask(block, left, right, bias, keep, settings.fusion, q)
        for heads in block.heads:
            q_block, k_block = block.rows_of(q, heads), block.keys_of(k, heads)
            d_out_block = mask.without_keys(block.rows_of(d_out, heads), heads, 0.0)
            score = torch.bmm(q_block, k_block.transpose(1, 2))
            slope = None
            if settings.softcap is not None:
                score = capped_(score, settings.softcap)
                slope = 1 - (score / settings.softcap).square_()
            weights = softmax_(mask.fuse(score, heads, out=torch.empty_like(score) if mask.multiplies else score))
            d_weights = torch.bmm(d_out_block, block.keys_of(v, heads).transpose(1, 2))
            used = weights
            if settings.dropout > 0.0:
                dropped = pattern(weights, settings, block, heads)
                used = weights * dropped
                d_weights *= dropped
            block.keys_of(d_v, heads).baddbmm_(used.transpose(1, 2), d_out_block)
            d_fused = softmax_backward_(d_weights, weights)
            if d_norm is not None:
                d_fused.addcmul_(weights, mask.without_keys(block.rows_of(d_norm, heads), heads, 0.0))
            if wants_mask:
                mask.collect(d_fused, score, heads)
            d_score = mask.unfuse(d_fused, heads)
            if slope is not None:
                d_score.mul_(slope)
            block.rows_of(d_q, heads).copy_(torch.bmm(d_score, k_block))
            block.keys_of(d_k, heads).baddbmm_(d_score.transpose(1, 2), q_block)
        if wants_mask:
            mask.spread(*factors)
    grads = zip((d_q.mul_(settings.scale), d_k, d_v, *factors), inputs, strict=True)
    return [None if grad is None else grad.to(of.dtype) for grad, of in grads]


def softmax_(score: Tensor) -> Tensor:
    """Softmax over the last dimension, in place: one pass of torch instead of four (max, difference, exp, sum)."""
    return torch.softmax(score, -1, out=score)


def softmax_backward_(grad: Tensor, weights: Tensor) -> Tensor:
    """weights * (grad - sum of weights * grad over the last dimension), in place of `grad`."""
    return torch.ops.aten._softmax_backward_data.out(grad, weights, -1, grad.dtype, grad_input=grad)


def capped_(score: Tensor, softcap: float) -> Tensor:
    """softcap * tanh(score / softcap), in place."""
    return score.div_(softcap).tanh_().mul_(softcap)


def gradients_with_graph(inputs, keep, settings: Settings, grad_out, grad_norm) -> list[Tensor | None]:
    """The gradients of the inputs as functions of the inputs, through the equation. Keys and values may have fewer
    heads than queries."""
    query, key, value, left, right, bias = inputs
    if query.shape[1] != key.shape[1]:
        key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], 1) for t in (key, value))
    mask = None
    if left is not None:
        mask = Mask(left, right, bias)
    elif bias is not None:
        mask = Mask.from_dense(bias)
    score = scores(query, key, mask, settings.fusion, settings.scale, settings.softcap)
    kept = allowed(keep, settings.causal, query, key)
    weights = normalised(score, kept)
    if settings.dropout > 0.0:
        weights = weights * whole_pattern(weights, left, right, bias, settings)
    outputs = [(weights @ value.to(weights.dtype)).to(query.dtype), log_sum(score, kept)]
    given = [(out, grad) for out, grad in zip(outputs, (grad_out, grad_norm), strict=True) if grad is not None]
    outs, grads = zip(*given, strict=True)
    wanted = [tensor for tensor in inputs if tensor is not None and tensor.requires_grad]
    found = iter(torch.autograd.grad(outs, wanted, grads, create_graph=True, allow_unused=True))
    return [next(found) if tensor is not None and tensor.requires_grad else None for tensor in inputs]


def whole_pattern(weights: Tensor, left, right, bias, settings: Settings) -> Tensor:
    """The dropout pattern of all blocks, (B, H, N_q, N_k)."""
    whole = torch.zeros_like(weights)
    query, key = weights[..., :1], weights[:, :, :1].transpose(2, 3)  # of the right lengths
    for block in blocks(query, key, left, right, bias, settings.causal):
        for heads in block.heads:
            part = whole[block.samples, heads, block.rows, block.keys]
            part.copy_(pattern(part.flatten(0, 1), settings, block, heads).view_as(part))
    return whole


def prepare(query: Tensor, key: Tensor, value: Tensor, scale: float) -> list[Tensor]:
    """Scaled queries, keys and values, contiguous, in float32 or wider."""
    dtype = torch.promote_types(query.dtype, torch.float32)
    return [t.to(dtype).contiguous() for t in (query.to(dtype) * scale, key, value)]


def pattern(score: Tensor, settings: Settings, block: "Block", heads: slice) -> Tensor:
    """The dropout pattern of a block: 0 or 1 / (1 - p), the same whenever it is asked for."""
    place = hash((block.samples.start, block.rows.start, heads.start)) % 2**31
    generator = torch.Generator(score.device).manual_seed(settings.seed + place)
    kept = 1.0 - settings.dropout
    return torch.empty_like(score).bernoulli_(kept, generator=generator).div_(kept or 1.0)
