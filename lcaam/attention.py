"""attention(query, key, value, mask): the one door to every backend.

>>> out = attention(q, k, v, mask_net(x), fusion="mul")  # (B, H, N_q, d_v)

The function has the name of this module, so `lcaam.attention` is the function; the module's other names are reached
with `from lcaam.attention import watch`. The same holds for the backends.
"""

import logging
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from lcaam.backends import BACKENDS, GROUPING, WINDOWED
from lcaam.backends.reference import weights
from lcaam.choice import Choice, cheapest
from lcaam.factors import Mask
from lcaam.fusion import Fusion, agreed
from lcaam.reentrant import check_gradients
from lcaam.structure import allowed, check_keep, check_window

log = logging.getLogger(__name__)
# devices that have autocast (meta has none), asked once: older compilers cannot ask
AUTOCAST = {name for name in ("cpu", "cuda", "xpu", "mps", "hpu", "mtia") if torch.amp.is_autocast_available(name)}


@dataclass(frozen=True)
class Call:
    """What one call of `attention` computed, for whoever watches: structural masks are already one bool tensor."""

    query: Tensor  # (B, H, N_q, d)
    key: Tensor  # (B, H, N_k, d)
    mask: Mask | None
    fusion: Fusion
    keep: Tensor | None  # broadcasts to (B, H, N_q, N_k)
    scale: float
    softcap: float | None = None

    def weights(self) -> Tensor:
        """The attention weights before dropout, (B, H, N_q, N_k), at least float32."""
        return weights(self.query, self.key, self.mask, self.fusion, self.keep, self.scale, self.softcap)


WATCHERS: ContextVar[tuple[Callable[[Call], None], ...]] = ContextVar("lcaam_watchers", default=())


# what may be attended to in the place of `Call.keep`, in turn
RESTRICTIONS: ContextVar[tuple[Callable[[Call], Tensor | None], ...]] = ContextVar("lcaam_restrictions", default=())


@contextmanager
def restricting(restrict: Callable[[Call], Tensor | None]):
    """Attend only where `restrict(call)` says, in every attention computed inside the `with` block.

    restrict: what a call would compute -> bool, True = attend, 4-dimensional and broadcastable to (B, H, N_q, N_k), or
    None for every key. Run a compiled model uncompiled.
    """
    token = RESTRICTIONS.set((*RESTRICTIONS.get(), restrict))
    try:
        yield
    finally:
        RESTRICTIONS.reset(token)


@contextmanager
def watch(watcher: Callable[[Call], None]):
    """Call `watcher(call)` for every attention computed inside the `with` block, in whatever model."""
    token = WATCHERS.set((*WATCHERS.get(), watcher))
    try:
        yield
    finally:
        WATCHERS.reset(token)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Mask | None = None,
    *,
    fusion: str | Fusion | None = None,
    keep: Tensor | None = None,
    causal: bool = False,
    window: tuple[int, int] | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    backend: str = "auto",
) -> Any:
    """softmax(fusion(query key^T * scale, mask)) value.

    query (B, H, N_q, d), key (B, H, N_k, d), value (B, H, N_k, d_v) -> (B, H, N_q, d_v)
    mask:    a Mask (B or 1, 1 or H, N_q, N_k), or None for plain attention whatever the fusion. A factored mask with
             more key columns than there are keys uses its first ones.
    fusion:  None is the fusion that the mask was made for, or "mul" if it does not say. ValueError for another one.
    keep:    bool, True = attend; (B, N_k), (N_q, N_k), (B, N_q, N_k), or 4-dimensional and broadcastable to
             (B, H, N_q, N_k). A square of B = N_q = N_k could be either of the first two: ValueError.
    causal:  query i sees keys j <= i + N_k - N_q (aligned at the end, so that cached decoding is the same function).
    window:  (before, after): of the keys around that place, i + N_k - N_q, query i sees those from `before` to the left
             to `after` to the right; with `causal` none to the right. None is all of them.
    dropout: probability of dropping an attention weight, applied whenever it is above 0.
    scale:   factor on the products of queries and keys; None is 1 / sqrt(d).
    softcap: scaled scores become softcap * tanh(score / softcap) before the fusion (as in Gemma 2); None leaves them.
    enable_gqa: True if key and value have fewer heads than query, which divide H: each serves H / H_k query heads in a
             row. A mask may have 1, H or H_k groups; H_k groups go with the keys.
    return_lse: True also returns the logarithm of each softmax's denominator, (B, H, N_q), float32 or wider, with
             gradients; -inf for a query without keys. It is what partial results over parts of the keys are joined by.
    backend: "auto", or one of "reference" (the equation), "chunked" (blocks of rows, little memory), "sdpa" (torch's
             fused attention; fusions that add to the score, such as add and gate) and "triton" (fused, any fusion, on
             CUDA devices; its products have the precision of the query's type).

    `keep`, `causal` and `window` come after the fusion and always win over any finite number; keys and values at
    dropped places must be finite too (0 x NaN is NaN). A query with no key to attend to returns zeros. Scores, mask and
    softmax are computed in float32 or wider. Under autocast query, key and value are cast as torch's own attention
    casts them.
    Raises ValueError for shapes that do not fit, nested tensors, an unknown fusion or backend, or a backend that cannot
    do the fusion.
    """
    mask, fusion, times = checked(query, key, value, mask, fusion, causal, dropout, softcap, enable_gqa)
    window = check_window(window)
    scale = max(query.shape[-1], 1) ** -0.5 if scale is None else scale
    keep = check_keep(keep, query, key)
    query, key, value = as_autocast(query, key, value)
    check_numbers(query, key, value)
    if not torch.compiler.is_compiling():  # older compilers cannot read a ContextVar, and none should record calls

        def call() -> Call:
            kept = allowed(keep, causal, query, key, window)
            return Call(query, for_all_heads(key, times), mask, fusion, kept, scale, softcap)

        for restrict in RESTRICTIONS.get():
            keep = restrict(call())
        for watcher in WATCHERS.get():
            watcher(call())
    if backend == "auto":
        needs_scores = softcap is not None or return_lse
        choice = cheapest(query, key, value, mask, fusion, dropout, needs_scores)
        backend = choice.backend
        if not torch.compiler.is_compiling():
            log.debug("attention: backend %s for fusion %s (%s)", backend, fusion.value, choice.reason)
    run, own = find_backend(backend), {}
    if backend not in GROUPING:
        key, value = for_all_heads(key, times), for_all_heads(value, times)
    if window is not None and backend in WINDOWED:
        own["window"] = window
    elif window is not None:
        keep = allowed(keep, causal, query, key, window)
    with without_autocast(query.device.type):
        return run(query, key, value, mask, fusion, keep, causal, dropout, scale, softcap, return_lse, **own)


def explain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Mask | None = None,
    *,
    fusion: str | Fusion | None = None,
    keep: Tensor | None = None,
    causal: bool = False,
    window: tuple[int, int] | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
) -> Choice:
    """What `attention` takes for backend="auto" with these arguments, and why: `.backend` and `.reason`.

    `keep`, `window` and `scale` are there so that a call can be copied; nothing depends on them. Gradients count: ask
    with tensors that require them, or under torch.no_grad, as in the call that it is about.
    Raises ValueError for what `attention` refuses.
    """
    mask, fusion, _ = checked(query, key, value, mask, fusion, causal, dropout, softcap, enable_gqa)
    check_window(window)
    check_keep(keep, query, key)
    query, key, value = as_autocast(query, key, value)
    check_numbers(query, key, value)
    return cheapest(query, key, value, mask, fusion, dropout, softcap is not None or return_lse)


def checked(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Mask | None,
    fusion: str | Fusion | None,
    causal: bool,
    dropout: float,
    softcap: float | None,
    enable_gqa: bool,
) -> tuple[Mask | None, Fusion, int]:
    """The mask that is used, for these keys and heads, the fusion, and how many heads of query share one of key.

    Raises ValueError as `attention`.
    """
    check_padded(query, key, value)
    check_kind(mask)
    fusion = agreed(fusion, None if mask is None else mask.fusion)
    times = 1
    if enable_gqa:
        times = check_groups(query, key, value)
        if mask is not None and mask.groups == key.shape[1]:
            mask = mask.map(lambda t: t if t.shape[1] == 1 else for_all_heads(t, times))
    check_shapes(query, key, value, times)
    if not 0.0 <= dropout <= 1.0:
        raise ValueError(f"dropout is a probability in [0, 1], got {dropout}")
    if softcap is not None and not 0.0 < softcap < float("inf"):
        raise ValueError(f"softcap is a finite number above 0, or None, got {softcap}")
    if mask is None or fusion.ignores_mask:
        return None, fusion, times
    if not torch.compiler.is_compiling():
        check_gradients(mask.tensors(), mask.lost)
    mask = mask.fit(key.shape[2])
    check_mask(mask, query)
    if mask.whole and causal and query.shape[2] != key.shape[2]:
        raise ValueError(
            "a mask of length='interpolate' moves its columns whenever the sequence grows, so decoding with a "
            "cache would compute another function than the whole sequence: use length='fixed' or length='content'"
        )
    return mask, fusion, times


def as_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the precision of autocast, if it is on; it leaves float64 alone."""
    device = tensors[0].device.type
    if not (device in AUTOCAST and torch.is_autocast_enabled(device)):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(t if t.dtype == torch.float64 else t.to(dtype) for t in tensors)


def without_autocast(device: str) -> Any:
    """Backends choose precisions themselves: autocast would round their scores."""
    if device in AUTOCAST and torch.is_autocast_enabled(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def check_groups(query: Tensor, key: Tensor, value: Tensor) -> int:
    """How many heads of the query share one of key and value. ValueError if the heads do not divide."""
    heads, of_keys = query.shape[1], key.shape[1]
    if value.shape[1] != of_keys or of_keys == 0 or heads % of_keys:
        raise ValueError(
            f"enable_gqa: {of_keys} heads of key and {value.shape[1]} of value must be as many as each other and "
            f"divide the {heads} heads of query"
        )
    return heads // of_keys


def for_all_heads(tensor: Tensor, times: int) -> Tensor:
    """(B, H_k, ...) with each head `times` times in a row."""
    return tensor if times == 1 else tensor.repeat_interleave(times, 1)


def find_backend(backend: str) -> Callable:
    if backend not in BACKENDS:
        near = get_close_matches(str(backend), ["auto", *BACKENDS], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown backend {backend!r}; allowed: auto, {', '.join(BACKENDS)}.{hint}")
    return BACKENDS[backend]


def check_kind(mask: Any) -> None:
    """ValueError for a mask of another class, such as a tensor."""
    if not (mask is None or isinstance(mask, Mask)):
        hint = "a tensor of values is Mask.from_dense(tensor); " if isinstance(mask, Tensor) else ""
        raise ValueError(f"mask is a {type(mask).__name__}, not a Mask: {hint}a mask network makes one of tokens")


def check_padded(*tensors: Tensor) -> None:
    """ValueError for nested tensors (jagged or strided): they have no mask of one shape."""
    if any(tensor.is_nested for tensor in tensors):
        raise ValueError(
            "attention takes no nested tensors: pad the sequences to (B, H, N, d), for example with "
            "torch.nested.to_padded_tensor(tensor, 0.0), and give keep=(B, N_k), True = a real key"
        )


def check_shapes(query: Tensor, key: Tensor, value: Tensor, times: int = 1) -> None:
    """ValueError for shapes that do not fit. times: how many heads of the query share one of the key."""
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if not query.dim() == key.dim() == value.dim() == 4:
        raise ValueError(
            f"query, key and value must be (B, H, N, d); got {shapes}. Sequences of several lengths that are packed "
            "into one are not supported: pad them, and give keep=(B, N_k)"
        )
    fewer = query.shape[1] != key.shape[1] and query.shape[1] % max(key.shape[1], 1) == 0
    if query.shape[0] == key.shape[0] and fewer and times == 1:
        raise ValueError(f"{shapes}: fewer heads of key than of query are grouped queries, which need enable_gqa=True")
    heads = (query.shape[0], query.shape[1] // times)
    if heads != key.shape[:2] or key.shape[:3] != value.shape[:3] or query.shape[-1] != key.shape[-1]:
        raise ValueError(f"query (B, H, N_q, d), key (B, H, N_k, d) and value (B, H, N_k, d_v) do not fit: {shapes}")


def check_numbers(query: Tensor, key: Tensor, value: Tensor) -> None:
    """ValueError for numbers of several types, whole numbers, or tensors on several devices."""
    dtypes, devices = [t.dtype for t in (query, key, value)], [t.device for t in (query, key, value)]
    if len(set(dtypes)) > 1 or not dtypes[0].is_floating_point:
        found = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise ValueError(f"query, key and value must be of one floating point type, are {found}")
    if len(set(devices)) > 1:
        raise ValueError(f"query, key and value must be on one device, are on {', '.join(map(str, devices))}")


def check_mask(mask: Mask, query: Tensor) -> None:
    b, h, n_q, _ = query.shape
    batches = [t.shape[0] for t in (mask.left, mask.right, mask.bias) if t is not None]
    if mask.num_queries != n_q or mask.groups not in (1, h) or any(size not in (1, b) for size in batches):
        raise ValueError(
            f"a mask of batch {max(batches)}, {mask.groups} groups and {mask.num_queries} queries does not fit query "
            f"(B, H, N_q, d) = {tuple(query.shape)}: batch must be 1 or B, groups 1 or H, queries N_q"
        )
