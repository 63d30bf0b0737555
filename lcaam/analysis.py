"""What attention and masks did: watch any model that uses `lcaam.attention`, then measure (paper figures S5 - S9).

>>> with record(model) as records:
...     model(batch)
>>> records[0].name, records[0].weights.shape, records[0].mask.shape
('encoder.layers.0.attention', (B, H, N_q, N_k), (B, G, N_q, N_k))
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from lcaam.attention import Call, watch
from lcaam.fusion import Fusion


@dataclass(frozen=True)
class Record:
    """One attention call, detached and on the CPU.

    name:    path of the innermost module that was running, "" for the model itself.
    weights: (B, H, N_q, N_k), attention weights after the softmax, before dropout; rows sum to 1, or to 0 without keys.
    mask:    (B or 1, G, N_q, N_k), the mask multiplied out, or None.
    keep:    bool, True = attended, broadcasts to (B, H, N_q, N_k), or None if every key was kept.
    """

    name: str
    weights: Tensor
    mask: Tensor | None
    fusion: Fusion
    keep: Tensor | None

    def of_queries(self, keep: Tensor) -> "Record":
        """The same record in which only some queries count. keep: (B, N_q) bool, True = a real token.

        Attention knows padding among the keys only; padded queries are computed like any other.
        """
        rows = keep.cpu()[:, None, :, None]
        return replace(self, keep=rows if self.keep is None else self.keep & rows)

    def kept_mask(self) -> Tensor:
        """Values of the mask at pairs that were attended to, in one dimension. Raises ValueError without a mask."""
        if self.mask is None:
            raise ValueError(f"{self.name or 'the model'} used no mask")
        return kept(self.mask, self.keep)

    def kept_weights(self) -> Tensor:
        """Attention weights at pairs that were attended to, in one dimension."""
        return kept(self.weights, self.keep)


@contextmanager
def record(model: nn.Module) -> Iterator[list[Record]]:
    """Record every attention that `model` computes inside the block, in order of execution.

    Works for any module that calls `lcaam.attention` in Python; run a model compiled by `torch.compile` uncompiled.
    Costs the memory of every N_q x N_k matrix: meant for a batch one looks at, not for training.
    """
    running: list[str] = []
    records: list[Record] = []

    def note(call: Call) -> None:
        if not running:  # somebody else's attention
            return
        with torch.no_grad():
            mask = None if call.mask is None else call.mask.dense().detach().float().cpu()
            keep = None if call.keep is None else call.keep.cpu()
            records.append(Record(running[-1], call.weights().detach().cpu(), mask, call.fusion, keep))

    def leave(module, args, output) -> None:
        running.pop()

    hooks = []
    for name, module in model.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda module, args, name=name: running.append(name)))
        hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        with watch(note):
            yield records
    finally:
        for hook in hooks:
            hook.remove()


def kept(values: Tensor, keep: Tensor | None) -> Tensor:
    """`values` (B, G, N_q, N_k) where `keep` is True, in one dimension."""
    if keep is None:
        return values.flatten()
    if keep.shape[1] != 1:
        keep = keep.any(1, keepdim=True) if values.shape[1] == 1 else keep
    values, keep = torch.broadcast_tensors(values, keep)
    return values[keep]


def heat_map(mask: Tensor, sample: int | None = None, keep: Tensor | None = None) -> Tensor:
    """The picture of a mask (figures S6, S8, S9): (N_q, N_k), the mean over groups, and over samples without `sample`.

    mask (B, G, N_q, N_k); keep: pairs that count in the mean over samples, broadcastable to it (a pair that no sample
    keeps has the mean of all). It shows the mask's values, not the attention that results from them.
    """
    mask = mask.mean(1)
    if sample is not None:
        return mask[sample]
    if keep is None:
        return mask.mean(0)
    mask, weight = torch.broadcast_tensors(mask, keep.any(1).to(mask.dtype))
    count = weight.sum(0)
    return torch.where(count > 0, (mask * weight).sum(0) / count.clamp(min=1), mask.mean(0))


def attention_histogram(weights: Tensor, bins: int = 50) -> tuple[Tensor, Tensor]:
    """Counts (bins,) and edges (bins + 1,) over [0, 1] of attention weights of any shape (figures S5, S7).

    Says how much attention sits near zero; cannot say whether the right tokens got the rest.
    """
    counts, edges = torch.histogram(weights.flatten().float(), bins=bins, range=(0.0, 1.0))
    return counts.long(), edges


def sparsity(weights: Tensor, threshold: float = 0.01) -> float:
    """Share of attention weights below `threshold`, in [0, 1]; 0 of nothing is 0.

    With uniform attention over N keys every weight is 1 / N, so compare models of the same N only.
    """
    return (weights < threshold).float().mean().item() if weights.numel() else 0.0


def sign_flips(mask: Tensor) -> float:
    """Share of negative mask values, in [0, 1]: where fusion mul turns the order of scores around (m < 0).

    Means nothing for fusions that do not multiply the score.
    """
    return (mask < 0).float().mean().item() if mask.numel() else 0.0


def context_sensitivity(mask: Tensor, fusion: str | Fusion = "mul", keep: Tensor | None = None) -> float:
    """How much of the mask depends on the sample: variance over samples / total variance, in [0, 1]; 0 / 0 is 0.

    mask: (B, G, N_q, N_k) of B different samples, or (1, G, N_q, N_k), the same for all; keep: pairs that count,
    broadcastable to it. For fusion add each row is centred first, since the softmax ignores a row's shift; then only
    pairs that every sample keeps count, so that all rows are centred alike. 0 is a static mask, the same for every
    sample; 1 is a mask without any part that is common to all. It cannot say whether the context it reads is useful.
    """
    counts = torch.ones_like(mask[:, :1], dtype=torch.bool) if keep is None else keep.any(1, keepdim=True)
    centred = Fusion.parse(fusion).ignores_row_shift
    mask, weight = torch.broadcast_tensors(mask.double(), (counts.all(0) if centred else counts).double())
    if centred:
        mask = mask - (mask * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True).clamp(min=1)
    count = weight.sum((0, 2, 3), keepdim=True).clamp(min=1)
    overall = (mask * weight).sum((0, 2, 3), keepdim=True) / count
    total = ((mask - overall).square() * weight).sum()
    if total <= 1e-24 * (mask.square() * weight).sum():  # a constant mask, up to the rounding of its mean
        return 0.0
    common = (mask * weight).sum(0, keepdim=True) / weight.sum(0, keepdim=True).clamp(min=1)
    within = ((mask - common).square() * weight).sum()
    return (within / total).item()


def token_deviation(mask: Tensor) -> float:
    """Standard deviation of the mask over query tokens, averaged over samples, groups and keys; mask (B, G, N_q, N_k).

    Near 0, every token gets the same row: the mask reads no token (a deep one at torch's default initialisation). It
    cannot say whether rows differ by the content of a token or only by its position.
    """
    return mask.double().std(dim=2, correction=0).mean().item()


def effective_rank(mask: Tensor) -> float:
    """Exponential of the entropy of the normalised singular values, averaged over samples and groups, in [1, N].

    mask (B, G, N_q, N_k). An outer product has rank 1, a random matrix close to full rank, zeros have 0. The result is
    the number of independent patterns in the mask, and so the `rank` that is enough for it. (Roy and Vetterli, 2007.)
    """
    values = torch.linalg.svdvals(mask.double())  # (B, G, min(N_q, N_k))
    share = values / values.sum(-1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
    entropy = torch.special.entr(share).sum(-1)
    return torch.where(values[..., 0] > 0, entropy.exp(), 0.0).mean().item()


def block_means(mask: Tensor, boundaries: list[int], keep: Tensor | None = None) -> Tensor:
    """Mean mask value of every pair of token blocks, e.g. modalities: (blocks, blocks), rows query blocks.

    mask (B, G, N_q, N_k) of self-attention; boundaries: where a block ends and the next begins, e.g. [25]; keep: pairs
    that count, broadcastable to mask. A block without a pair is NaN. Means hide structure inside a block: look at
    `heat_map` too. Raises ValueError for boundaries that do not rise from 1 to N - 1.
    """
    edges = [0, *boundaries, mask.shape[-1]]
    if any(low >= high for low, high in pairwise(edges)):
        raise ValueError(f"block_means: boundaries {boundaries} do not divide {mask.shape[-1]} tokens")
    blocks = [slice(*pair) for pair in pairwise(edges)]
    counts = torch.ones_like(mask[:, :1], dtype=torch.bool) if keep is None else keep.any(1, keepdim=True)
    mask, weight = torch.broadcast_tensors(mask.double(), counts.double())
    total = torch.stack([torch.stack([(mask * weight)[..., r, c].sum() for c in blocks]) for r in blocks])
    return total / torch.stack([torch.stack([weight[..., r, c].sum() for c in blocks]) for r in blocks])
