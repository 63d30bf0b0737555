"""Structural masks: which keys a query may attend to at all. They come after the fusion and always win."""

from numbers import Integral

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
    if not isinstance(keep, Tensor):
        raise ValueError(f"keep must be a bool tensor (True = attend), got a {type(keep).__name__}")
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


def allowed(
    keep: Tensor | None, causal: bool, query: Tensor, key: Tensor, window: tuple[int, int] | None = None
) -> Tensor | None:
    """Padding, causality and a window as one bool tensor that broadcasts to (B, H, N_q, N_k), or None if every key is
    allowed.

    causal: query i sees keys j <= i + N_k - N_q; the last query sees every key. window: (before, after), numbers of
    keys around that place.
    """
    n_q, n_k = query.shape[2], key.shape[2]
    return between(*diagonals(causal, window, n_q, n_k), keep, query, key)


def between(lower: int | None, upper: int | None, keep: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    """`keep`, and of it the pairs i + lower <= j <= i + upper."""
    if lower is None and upper is None:
        return keep
    inside = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
    inside = inside if upper is None else inside.tril(upper)
    inside = inside if lower is None else inside.triu(lower)
    return inside[None, None] if keep is None else keep & inside


def diagonals(causal: bool, window: tuple[int, int] | None, n_q: int, n_k: int) -> tuple[int | None, int | None]:
    """(lower, upper): query i sees keys i + lower <= j <= i + upper; None for a side that leaves out no key at all."""
    before, after = (None, None) if window is None else window
    after = 0 if causal else after
    lower = None if before is None or before >= n_k - 1 else n_k - n_q - before
    upper = None if after is None or after >= n_q - 1 else n_k - n_q + after
    return lower, upper


def check_window(window: tuple[int, int] | None) -> tuple[int, int] | None:
    """`window` as a tuple. ValueError if it is not (before, after), two whole numbers of at least 0."""
    if window is None:
        return None
    ends = tuple(window) if isinstance(window, (tuple, list)) else ()
    if len(ends) != 2 or not all(isinstance(end, Integral) and not isinstance(end, bool) and end >= 0 for end in ends):
        raise ValueError(f"window is (before, after), two whole numbers of at least 0, or None, got {window!r}")
    return int(ends[0]), int(ends[1])
