"""Recall@k within N neighbours: does a generated sentence fit its own scene better than the neighbouring ones?

Sentences of one movie stand in time order. Windows of N consecutive ones start every N // 2 sentences; in each window a
generated sentence is a hit if its own reference is among the k that score highest with it. The result is the mean over
windows (AutoAD-II, which scores with BERTScore). Chance is k / N.

    >>> recall_within_neighbours(scores, k=(1, 5), n=16)  # scores (n, n): rows generated, columns references
    {1: 0.5833..., 5: 0.8125}

A recall is only comparable with another one of the same scorer, so its name says which: `R@5/16[rougeL]` here.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch

log = logging.getLogger(__name__)

TIES = ("topk", "optimistic", "pessimistic", "expected")


def recall_within_neighbours(scores, k: Sequence[int] = (1, 5), n: int = 16, ties: str = "topk") -> dict[int, float]:
    """Shares in [0, 1] by k, for one movie.

    scores: (M, M) finite numbers, rows generated sentences, columns references, both in time order.
    ties:   what a tie between the own and other references means: "topk" - the order of torch.topk, as AutoAD;
            "optimistic" or "pessimistic" - the own one first or last; "expected" - the mean over random orders.
    The last (M - n) mod (n // 2) sentences are in no window, as in AutoAD.
    Raises ValueError for n < 2, a k outside 1..n, scores that are not square, finite and at least n long.
    """
    return {name: float(hits.mean()) for name, hits in window_recalls(scores, k, n, ties).items()}


def window_recalls(scores, k: Sequence[int], n: int, ties: str) -> dict[int, torch.Tensor]:
    """The share of hits in every window, (W,) by k."""
    scores = torch.as_tensor(np.asarray(scores))
    if n < 2:
        raise ValueError(f"recall within neighbours needs windows of n >= 2 sentences, got n={n}")
    if not k or min(k) < 1 or max(k) > n:
        raise ValueError(f"every k must be between 1 and n={n}, got k={tuple(k)}")
    if ties not in TIES:
        raise ValueError(f"unknown ties {ties!r}; allowed: {', '.join(TIES)}")
    if scores.dim() != 2 or scores.shape[0] != scores.shape[1]:
        raise ValueError(f"scores must be (M generated, M references), got {tuple(scores.shape)}")
    if len(scores) < n:
        raise ValueError(f"a movie of {len(scores)} sentences is shorter than the window of n={n}")
    if not torch.isfinite(scores).all():
        raise ValueError("scores contain NaN or infinite values: a NaN would count as a hit")

    blocks = torch.stack([scores[s : s + n, s : s + n] for s in range(0, len(scores) - n + 1, n // 2)])  # (W, n, n)
    own = blocks.diagonal(dim1=1, dim2=2)[..., None]  # (W, n, 1)
    above = (blocks > own).sum(-1)  # references that beat the own one
    tied = (blocks == own).sum(-1)  # the own one counted
    if ties == "topk":
        best = blocks.topk(max(k), dim=-1).indices  # (W, n, max k)
        own_index = torch.arange(n)[None, :, None]
        return {x: (best[..., :x] == own_index).any(-1).double().mean(-1) for x in k}
    if ties == "expected":
        return {x: ((x - above) / tied).clamp(0, 1).double().mean(-1) for x in k}
    rank = above if ties == "optimistic" else above + tied - 1
    return {x: (rank < x).double().mean(-1) for x in k}


def rouge_l_matrix(generated: Sequence[str], references: Sequence[str], beta: float = 1.2) -> np.ndarray:
    """ROUGE-L F-measure of every generated sentence (row) with every reference (column), in [0, 1], on plain tokens.

    The longest common subsequences of all pairs grow together, one pair of token positions at a time.
    """
    vocabulary: dict[str, int] = {}
    rows, row_lengths = encode(generated, vocabulary, padding=-1)
    columns, column_lengths = encode(references, vocabulary, padding=-2)
    shape = (len(rows), len(columns))
    previous = np.zeros((columns.shape[1] + 1, *shape), dtype=np.int16)  # longest common subsequence so far
    for i in range(rows.shape[1]):
        current = np.zeros_like(previous)
        for j in range(columns.shape[1]):
            same = rows[:, i, None] == columns[None, :, j]
            current[j + 1] = np.where(same, previous[j] + 1, np.maximum(previous[j + 1], current[j]))
        previous = current
    common = previous[-1].astype(np.float64)
    precision = common / np.maximum(row_lengths[:, None], 1)
    recall = common / np.maximum(column_lengths[None, :], 1)
    denominator = recall + beta**2 * precision
    return np.divide((1 + beta**2) * precision * recall, denominator, out=np.zeros(shape), where=denominator > 0)


def encode(sentences: Sequence[str], vocabulary: dict[str, int], padding: int) -> tuple[np.ndarray, np.ndarray]:
    """Sentences as padded token numbers (M, longest) and their lengths (M,); `vocabulary` grows."""
    tokens = [[vocabulary.setdefault(word, len(vocabulary)) for word in s.lower().split()] for s in sentences]
    lengths = np.array([len(t) for t in tokens])
    table = np.full((len(tokens), max(lengths.max(initial=0), 1)), padding)
    for row, numbers in zip(table, tokens, strict=True):
        row[: len(numbers)] = numbers
    return table, lengths


def recall_over_movies(rows: Sequence[dict], k: Sequence[int] = (1, 5), n: int = 16) -> dict[str, float]:
    """Recall in percent over all movies, scored with ROUGE-L on plain tokens; ties count as their expectation.

    rows: dicts with movie, start, generated, reference, in any order. `R@k/n[rougeL]` is the mean over movies,
    `R@k/n[rougeL,windows]` the mean over all windows. Movies shorter than n sentences are in neither and are counted in
    `R@k/n movies skipped`; where no movie is long enough that is all there is, and a warning says so.
    """
    movies: dict[str, list[dict]] = {}
    for row in sorted(rows, key=lambda row: (row["movie"], row["start"])):
        movies.setdefault(row["movie"], []).append(row)
    results = []
    for scenes in movies.values():
        if len(scenes) >= n:
            scores = rouge_l_matrix([s["generated"] for s in scenes], [s["reference"] for s in scenes])
            results.append(window_recalls(scores, k, n, ties="expected"))
    recalls = {}
    if not results:
        log.warning("no movie has the %d sentences that recall within %d neighbours needs: it is left out", n, n)
    for x in k if results else ():
        recalls[f"R@{x}/{n}[rougeL]"] = 100 * float(np.mean([float(r[x].mean()) for r in results]))
        recalls[f"R@{x}/{n}[rougeL,windows]"] = 100 * float(torch.cat([r[x] for r in results]).mean())
    if skipped := len(movies) - len(results):
        recalls[f"R@k/{n} movies skipped"] = float(skipped)
    return recalls
