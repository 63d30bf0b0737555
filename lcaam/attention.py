"""attention(query, key, value, mask): the one door to every backend.

>>> out = attention(q, k, v, mask_net(x), fusion="mul")  # (B, H, N_q, d_v)

The function has the name of this module, so `lcaam.attention` is the function; the module's other names are reached
with `from lcaam.attention import cheapest`. The same holds for the backends.
"""

import logging
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

from lcaam.backends import BACKENDS
from lcaam.backends.reference import weights
from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.structure import allowed, check_keep

log = logging.getLogger(__name__)

SEVERAL_BLOCKS = 2**15  # pairs of a query and a key, in one head of one sample
LARGE = 2**27  # pairs in all; half a gibibyte of float32


@dataclass(frozen=True)
class Call:
    """What one call of `attention` computed, for whoever watches: structural masks are already one bool tensor."""

    query: Tensor  # (B, H, N_q, d)
    key: Tensor  # (B, H, N_k, d)
    mask: Mask | None
    fusion: Fusion
    keep: Tensor | None  # broadcasts to (B, H, N_q, N_k)
    scale: float

    def weights(self) -> Tensor:
        """The attention weights before dropout, (B, H, N_q, N_k), at least float32."""
        return weights(self.query, self.key, self.mask, self.fusion, self.keep, self.scale)


WATCHERS: ContextVar[tuple[Callable[[Call], None], ...]] = ContextVar("lcaam_watchers", default=())


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
    fusion: str | Fusion = "mul",
    keep: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """softmax(fusion(query key^T * scale, mask)) value.

    query (B, H, N_q, d), key (B, H, N_k, d), value (B, H, N_k, d_v) -> (B, H, N_q, d_v)
    mask:    a Mask (B or 1, 1 or H, N_q, N_k), or None for plain attention whatever the fusion. A factored mask with
             more key columns than there are keys uses its first ones.
    keep:    bool, True = attend; (B, N_k), or 4-dimensional and broadcastable to (B, H, N_q, N_k).
    causal:  query i sees keys j <= i + N_k - N_q (aligned at the end, so that cached decoding is the same function).
    dropout: probability of dropping an attention weight, applied whenever it is above 0.
    scale:   factor on the products of queries and keys; None is 1 / sqrt(d).
    backend: "auto", or one of "reference" (the equation), "chunked" (blocks of rows, little memory)
             and "sdpa" (torch's fused attention; fusions that add to the score, such as add and gate).

    `keep` and `causal` come after the fusion and always win over any finite number; keys and values at dropped places
    must be finite too (0 x NaN is NaN). A query with no key to attend to returns zeros. The softmax is computed in
    float32 or wider.
    Raises ValueError for shapes that do not fit, an unknown fusion or backend, or a backend that cannot do the fusion.
    """
    fusion = Fusion.parse(fusion)
    check_shapes(query, key, value)
    if not 0.0 <= dropout <= 1.0:
        raise ValueError(f"dropout is a probability in [0, 1], got {dropout}")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if fusion.ignores_mask:
        mask = None
    if mask is not None:
        mask = mask.fit(key.shape[2])
        check_mask(mask, query)
        if mask.whole and causal and query.shape[2] != key.shape[2]:
            raise ValueError(
                "a mask of length='interpolate' moves its columns whenever the sequence grows, so decoding with a "
                "cache would compute another function than the whole sequence: use length='fixed' or length='content'"
            )
    keep = check_keep(keep, query, key)
    if not torch.compiler.is_compiling():  # older compilers cannot read a ContextVar, and none should record calls
        for watcher in WATCHERS.get():
            watcher(Call(query, key, mask, fusion, allowed(keep, causal, query, key), scale))
    if backend == "auto":
        backend = cheapest(mask, fusion, query, key)
        if not torch.compiler.is_compiling():
            log.debug("attention: backend %s for fusion %s", backend, fusion.value)
    return find_backend(backend)(query, key, value, mask, fusion, keep, causal, dropout, scale)


def cheapest(mask: Mask | None, fusion: Fusion, query: Tensor, key: Tensor) -> str:
    """What backend "auto" means here (measured by scripts/benchmark.py attention).

    On a CPU the blocks of "chunked" stay in the cache and win as soon as there are several of them per sample; folding
    an additive mask into longer features costs more than the scores it avoids. On a GPU (not measured yet) torch's
    kernels are taken if they can do the fusion. Under torch.compile the equation is left to the compiler.
    """
    if mask is None:
        return "sdpa"
    if torch.compiler.is_compiling():
        return "reference"
    pairs = query.shape[2] * key.shape[2]
    if query.device.type == "cpu":
        return "chunked" if pairs >= SEVERAL_BLOCKS else "reference"
    if fusion.adds_the_mask and mask.factored:
        return "sdpa"
    if pairs * query.shape[0] * query.shape[1] > LARGE:
        return "chunked"
    return "reference" if fusion.multiplies else "sdpa"


def find_backend(backend: str) -> Callable:
    if backend not in BACKENDS:
        near = get_close_matches(str(backend), ["auto", *BACKENDS], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown backend {backend!r}; allowed: auto, {', '.join(BACKENDS)}.{hint}")
    return BACKENDS[backend]


def check_shapes(query: Tensor, key: Tensor, value: Tensor) -> None:
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if not query.dim() == key.dim() == value.dim() == 4:
        raise ValueError(f"query, key and value must be (B, H, N, d); got {shapes}")
    if query.shape[:2] != key.shape[:2] or key.shape[:3] != value.shape[:3] or query.shape[-1] != key.shape[-1]:
        raise ValueError(f"query (B, H, N_q, d), key (B, H, N_k, d) and value (B, H, N_k, d_v) do not fit: {shapes}")


def check_mask(mask: Mask, query: Tensor) -> None:
    b, h, n_q, _ = query.shape
    batches = [t.shape[0] for t in (mask.left, mask.right, mask.bias) if t is not None]
    if mask.num_queries != n_q or mask.groups not in (1, h) or any(size not in (1, b) for size in batches):
        raise ValueError(
            f"a mask of batch {max(batches)}, {mask.groups} groups and {mask.num_queries} queries does not fit query "
            f"(B, H, N_q, d) = {tuple(query.shape)}: batch must be 1 or B, groups 1 or H, queries N_q"
        )
