"""Published relatives of masks, for probes and small models: a sparse softmax and positions that depend on the context.

>>> encoder = with_sparse_softmax(Encoder(64, 2, heads=4))           # entmax-1.5 (Peters et al., ACL 2019)
>>> encoder = with_contextual_positions(Encoder(64, 2, heads=4), 64)  # CoPE (Golovneva et al., 2024)

Both compute the equation, on (N_q, N_k) matrices of every head, beside any mask. The adaptive attention span is a kind
of mask (lcaam.span). lcaam.analysis.record sees softmax attention, so not these.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lcaam.attention import as_autocast, without_autocast
from lcaam.backends.reference import normalised, scores
from lcaam.encoder import MaskedStack, MultiheadAttention
from lcaam.factors import Mask
from lcaam.fusion import agreed
from lcaam.structure import allowed, check_keep


class Entmax15(torch.autograd.Function):
    """entmax with alpha = 1.5 along the last dimension, by sorting (Peters et al., section 3 and algorithm 2)."""

    @staticmethod
    def forward(ctx: Any, score: Tensor) -> Tensor:
        z = ((score - score.amax(-1, keepdim=True)) / 2).clamp(min=-2)  # tau is at least -1: what is below has weight 0
        ordered = z.sort(-1, descending=True).values
        count = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
        mean = ordered.cumsum(-1) / count
        spread = ordered.square().cumsum(-1) - count * mean.square()  # sum of squared deviations of the first ones
        tau = mean - ((1 - spread) / count).clamp(min=0).sqrt()
        size = (tau <= ordered).sum(-1, keepdim=True)  # of the support
        weight = (z - tau.gather(-1, size - 1)).clamp(min=0).square()
        ctx.save_for_backward(weight)
        return weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (weight,) = ctx.saved_tensors
        root = weight.sqrt()
        slope = grads[0] * root
        return slope - root * (slope.sum(-1, keepdim=True) / root.sum(-1, keepdim=True))


def entmax15(score: Tensor) -> Tensor:
    """score (..., N) -> weights (..., N) that sum to 1, of which those of low scores are exactly 0.

    max(z / 2 - tau, 0)^2 with the tau for which they sum to 1. Exact; it has gradients, but no second ones. -inf has
    weight 0; a row of -inf only is NaN, as in softmax.
    """
    return Entmax15.apply(score)  # type: ignore[no-untyped-call]


def contextual_positions(query: Tensor, key: Tensor, table: Tensor, scale: float) -> Tensor:
    """CoPE's term on the scores of causal attention (B, H, N_q, N_k): q_i . e[p_ij], p_ij = sum_{j <= k <= i} g_ik.

    The position of a key is counted in gates g_ik = sigmoid(scale q_i . k_k) and is any real number; e is interpolated
    linearly between whole ones. query (B, H, N_q, d), key (B, H, N_k, d), aligned at the end. table (P, d): e[0] ...
    e[P - 1]; positions are at most P - 1.
    """
    gates = (query @ key.transpose(-2, -1) * scale).sigmoid()
    n_q, n_k = gates.shape[-2:]
    past = torch.ones(n_q, n_k, dtype=torch.bool, device=gates.device).tril(n_k - n_q)
    place = gates.masked_fill(~past, 0.0).flip(-1).cumsum(-1).flip(-1).clamp(max=len(table) - 1)
    low = place.floor()
    of_whole = query @ table.T.to(query.dtype)  # (B, H, N_q, P)
    first = of_whole.gather(-1, low.long())
    second = of_whole.gather(-1, (low.long() + 1).clamp(max=len(table) - 1))
    return first + (place - low) * (second - first)


class ByTheEquation(MultiheadAttention):
    """Attention of which a subclass changes the scores or their normalisation."""

    def compute(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Mask | None, keep: Tensor | None, causal: bool, dropout: float
    ) -> Tensor:
        fusion, scale = agreed(self.fusion, None if mask is None else mask.fusion), q.shape[-1] ** -0.5
        mask = None if mask is None or fusion.ignores_mask else mask.fit(k.shape[2])
        kept = allowed(check_keep(keep, q, k), causal, q, k)
        q, k, v = as_autocast(q, k, v)
        with without_autocast(q.device.type):
            score = self.changed(scores(q, k, mask, fusion, scale), q, k, causal, scale)
            weight = F.dropout(self.normalised(score, kept), dropout)
            return (weight @ v.to(weight.dtype)).to(v.dtype)

    def changed(self, score: Tensor, query: Tensor, key: Tensor, causal: bool, scale: float) -> Tensor:
        """The fused scores (B, H, N_q, N_k) that are normalised."""
        return score

    def normalised(self, score: Tensor, keep: Tensor | None) -> Tensor:
        """The attention weights (B, H, N_q, N_k); those of a query without keys are 0."""
        return normalised(score, keep)


class SparseAttention(ByTheEquation):
    """Attention with entmax-1.5 in the place of the softmax."""

    def normalised(self, score: Tensor, keep: Tensor | None) -> Tensor:
        if keep is None:
            return entmax15(score)
        alone = ~keep.any(-1, keepdim=True)
        return entmax15(score.masked_fill(~(keep | alone), -torch.inf)).masked_fill(alone, 0.0)


class ContextualAttention(ByTheEquation):
    """Causal attention with CoPE on its scores. positions (P, d): one table for all heads."""

    positions: nn.Parameter

    def changed(self, score: Tensor, query: Tensor, key: Tensor, causal: bool, scale: float) -> Tensor:
        if not causal and query.shape[2] > 1:
            raise ValueError("contextual positions count the keys before a query: they need causal=True")
        return score + contextual_positions(query, key, self.positions, scale).to(score.dtype)


def with_sparse_softmax(stack: MaskedStack) -> MaskedStack:
    """Makes every attention of an Encoder sparse, in place, and returns it. TypeError for another kind of layer."""
    for attention in attentions_of(stack):
        attention.__class__ = SparseAttention
    return stack


def with_contextual_positions(stack: MaskedStack, positions: int) -> MaskedStack:
    """Gives every attention of an Encoder CoPE with that many positions, in place, and returns it.

    The table starts at 0, which is attention without it; the layers need `causal=True` from now on. Raises ValueError
    for less than one position and for layers with other positions, TypeError for another kind of layer.
    """
    if positions < 1:
        raise ValueError(f"with_contextual_positions: positions must be at least 1, got {positions}")
    found = attentions_of(stack)
    if any(attention.relation is not None for attention in found):
        raise ValueError("contextual positions take the place of others: build the stack with positions=None")
    for attention in found:
        weight = attention.query.weight
        attention.positions = nn.Parameter(weight.new_zeros(positions, len(weight) // attention.heads))
        attention.__class__ = ContextualAttention
    return stack


def attentions_of(stack: MaskedStack) -> list[MultiheadAttention]:
    """The attentions of all layers. TypeError for one that is not lcaam's own, ValueError for a backend that is asked
    for: these are computed by the equation."""
    found = [getattr(layer, "attention", None) for layer in stack.layers]
    for attention in found:
        if type(attention) is not MultiheadAttention:
            raise TypeError(f"an attention of class {type(attention).__name__}; allowed: lcaam.MultiheadAttention")
        if attention.backend not in ("auto", "reference"):
            raise ValueError(f"backend {attention.backend!r} computes softmax attention; allowed: auto, reference")
    return found  # type: ignore[return-value]
