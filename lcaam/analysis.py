"""What attention and masks did: watch any model that uses `lcaam.attention`, then measure (paper figures S5 - S9).

>>> with record(model) as records:
...     model(batch)
>>> print(report(records))  # which attention took which mask
>>> context_sensitivity(records[0].mask, records[0].fusion)

Records are made in lcaam.recording, and what is said about a whole call in lcaam.diagnostics; both are reached here.
"""

from itertools import pairwise

import torch
from torch import Tensor

from lcaam.diagnostics import promoted, remarks, report
from lcaam.fusion import Fusion
from lcaam.recording import Record, kept, record

__all__ = [
    "Record",
    "attention_histogram",
    "block_means",
    "context_sensitivity",
    "effective_rank",
    "heat_map",
    "kept",
    "promoted",
    "record",
    "remarks",
    "report",
    "sign_flips",
    "sparsity",
    "token_deviation",
]


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
    """Share of negative mask values, in [0, 1]: where fusion mul turns the sign of a score around (m < 0).

    Means nothing for fusions that do not multiply the score. 0 does not mean that the mask demotes what it is below 1
    for: see `promoted`.
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
