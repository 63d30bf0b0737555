"""Structural masks: which keys a query may attend to at all. They come after the fusion and always win."""

import torch
from torch import Tensor


def check_keep(keep: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    """`keep` as a 4-dimensional bool tensor that broadcasts to (B, H, N_q, N_k); ValueError if it does not fit.

    keep: bool, True = attend; (B, N_k), (N_q, N_k), (B, N_q, N_k), or 4-dimensional already. Of two dimensions that fit
    both ways, B being N_q, the first are samples, unless B = N_q = N_k: a square is a ValueError that asks.
    """
    if keep is None:
        return None
    b, h, n_q, _ = query.shape
    n_k = key.shape[2]
    if keep.dtype != torch.bool:
        raise ValueError(f"keep must be bool (True = attend), got {keep.dtype}")
    if keep.dim() == 2 and keep.shape == (b, n_k):
        if b == n_q == n_k > 1:
            raise ValueError(
                f"keep of shape {tuple(keep.shape)} can be (B, N_k) or (N_q, N_k), since B = N_q = N_k = {b}: give "
                "padding as keep[:, None, None, :] and a matrix for all samples as keep[None, None]"
            )
        return keep[:, None, None, :]
    if keep.dim() == 2 and keep.shape == (n_q, n_k):
        return keep[None, None]
    if keep.dim() == 3 and keep.shape == (b, n_q, n_k):
        return keep[:, None]
    full = (b, h, n_q, n_k)
    if keep.dim() != 4 or any(size not in (1, whole) for size, whole in zip(keep.shape, full, strict=True)):
        raise ValueError(
            f"keep must be (B, N_k) = {(b, n_k)}, (N_q, N_k) = {(n_q, n_k)}, (B, N_q, N_k) = {(b, n_q, n_k)}, or "
            f"4-dimensional and broadcastable to (B, H, N_q, N_k) = {full}, got {tuple(keep.shape)}"
        )
    return keep


def allowed(keep: Tensor | None, causal: bool, query: Tensor, key: Tensor) -> Tensor | None:
    """Padding and causality as one bool tensor that broadcasts to (B, H, N_q, N_k), or None if every key is allowed.

    causal: query i sees keys j <= i + N_k - N_q; the last query sees every key.
    """
    n_q, n_k = query.shape[2], key.shape[2]
    if not causal or n_q == 1:
        return keep
    past = torch.ones(n_q, n_k, dtype=torch.bool, device=query.device).tril(n_k - n_q)
    return past[None, None] if keep is None else keep & past
