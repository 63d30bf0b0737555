"""Recall@k within N neighbours: does a generated sentence fit its own scene better than the neighbouring ones?

Sentences of one movie are in time order. Windows of N consecutive ones start every N // 2 sentences; in each window a
generated sentence is a hit if its own reference is among the k that score highest with it. The result is the mean over
windows (AutoAD-II, which scores with BERTScore). Chance is k / N.

    >>> recall_within_neighbours(scores, k=(1, 5), n=16)  # scores (M, M): rows generated, columns references
    {1: 0.5833..., 5: 0.8125}

A recall is only comparable with one of the same scorer (scorers.py), so its name includes the scorer: `R@5/16[rougeL]`.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch

from tasks.audio_description.scorers import RougeL, Scorer

log = logging.getLogger(__name__)

TIES = ("topk", "optimistic", "pessimistic", "expected")
SHOWN = 8  # movies or rows that a message names


def recall_within_neighbours(scores, k: Sequence[int] = (1, 5), n: int = 16, ties: str = "topk") -> dict[int, float]:
    """Shares in [0, 1] by k, for one movie.

    scores: (M, M) finite numbers, rows generated sentences, columns references, both in time order.
    ties:   what a tie between the own and other references means: "topk" - the order of torch.topk, as AutoAD;
            "optimistic" or "pessimistic" - the own one first or last; "expected" - the mean over random orders.
    The last (M - n) mod (n // 2) sentences are in no window, as in AutoAD.
    Raises ValueError for n < 2, a k outside 1..n, scores that are not square, finite and at least n long.
    """
    check_options(k, n, ties)
    if not isinstance(scores, torch.Tensor):
        scores = torch.as_tensor(np.asarray(scores))
    scores = scores.detach().cpu()
    if scores.dim() != 2 or scores.shape[0] != scores.shape[1]:
        raise ValueError(f"scores must be (M generated, M references), got {tuple(scores.shape)}")
    if len(scores) < n:
        raise ValueError(f"a movie of {len(scores)} sentences is shorter than the window of n={n}")
    if not torch.isfinite(scores).all():
        raise ValueError("scores contain NaN or infinite values: a NaN would count as a hit")
    places = window_places(len(scores), n)
    hits = hit_shares(scores[places[:, :, None], places[:, None, :]], k, ties)
    return {x: float(share.mean()) for x, share in hits.items()}


def check_options(k: Sequence[int], n: int, ties: str) -> None:
    """Raises ValueError for the first option that is out of its range."""
    if not isinstance(n, Integral) or n < 2:
        raise ValueError(f"recall within neighbours needs windows of n >= 2 sentences, got n={n}")
    if not isinstance(k, Sequence) or not k or not all(isinstance(x, Integral) and 1 <= x <= n for x in k):
        raise ValueError(f"every k must be a whole number between 1 and n={n}, got k={k}")
    if ties not in TIES:
        raise ValueError(f"unknown ties {ties!r}; allowed: {', '.join(TIES)}")


def window_places(length: int, n: int) -> np.ndarray:
    """The sentences of every window, (W, n)."""
    return np.arange(0, length - n + 1, n // 2)[:, None] + np.arange(n)


def hit_shares(blocks: torch.Tensor, k: Sequence[int], ties: str) -> dict[int, torch.Tensor]:
    """The share of hits in every window, (W,) float64 by k; blocks: (W, n, n) scores."""
    n = blocks.shape[-1]
    own = blocks.diagonal(dim1=1, dim2=2)[..., None]  # (W, n, 1)
    above = (blocks > own).sum(-1)  # references that beat the own one
    tied = (blocks == own).sum(-1)  # the own one counted
    if ties == "topk":
        best = blocks.topk(max(k), dim=-1).indices  # (W, n, max k)
        own_index = torch.arange(n)[None, :, None]
        return {x: (best[..., :x] == own_index).any(-1).double().mean(-1) for x in k}
    if ties == "expected":
        return {x: ((x - above).double() / tied).clamp(0, 1).mean(-1) for x in k}
    rank = above if ties == "optimistic" else above + tied - 1
    return {x: (rank < x).double().mean(-1) for x in k}


# -- all movies of a test set -----------------------------------------------------------------------------------------


class Recalls(NamedTuple):
    """The result of `neighbour_recalls`, before movies are put together."""

    windows: dict[str, dict[str, np.ndarray]]  # movie -> "R@5/16[rougeL]" -> percent of hits of its windows, (W,)
    skipped: dict[str, int]  # movie -> its sentences, fewer than n
    n: int

    def per_movie(self) -> dict[str, dict[str, float]]:
        """Percent by movie and name; skipped movies are not there."""
        return {m: {name: float(x.mean()) for name, x in names.items()} for m, names in self.windows.items()}

    def total(self) -> dict[str, float]:
        """In percent, `R@k/n[scorer]`: the mean over movies, and `R@k/n[scorer,windows]`: the mean over all windows.

        `R@k/n movies skipped` counts the movies that are in neither, if there are any.
        """
        total = {}
        for name in next(iter(self.windows.values()), {}):
            movies = [names[name] for names in self.windows.values()]
            total[name] = float(np.mean([movie.mean() for movie in movies]))
            total[f"{name[:-1]},windows]"] = float(np.concatenate(movies).mean())
        if self.skipped:
            total[f"R@k/{self.n} movies skipped"] = float(len(self.skipped))
        return total


def recall_over_movies(
    rows: Sequence[Mapping[str, Any]],
    k: Sequence[int] = (1, 5),
    n: int = 16,
    *,
    scorers: Sequence[Scorer] | None = None,
    ties: str = "expected",
) -> dict[str, float]:
    """Recall in percent over all movies (Recalls.total); the arguments are those of `neighbour_recalls`.

    If no movie has n sentences, the result has only the number of skipped movies.
    """
    return neighbour_recalls(rows, k, n, scorers=scorers, ties=ties).total()


def neighbour_recalls(
    rows: Sequence[Mapping[str, Any]],
    k: Sequence[int] = (1, 5),
    n: int = 16,
    *,
    scorers: Sequence[Scorer] | None = None,
    ties: str = "expected",
) -> Recalls:
    """Recall in every window of every movie, for every scorer.

    rows:    dicts with movie, start (seconds), generated, reference, in any order; optional end and ann_id order rows
             of one start.
    scorers: scorers as in scorers.py; None: RougeL alone. Each encodes a sentence once, however often and wherever it
             occurs, and scores a pair once, so that equal sentences tie exactly.
    ties:    as in `recall_within_neighbours`; "expected" makes the answer "the same sentence for every scene" chance.
    Movies of fewer than n sentences are left out, and a warning names them.
    Raises ValueError for what `recall_within_neighbours` refuses, two scorers of one name, a scorer whose scores are
    not finite, a row without text, or with a start that is not finite.
    """
    check_options(k, n, ties)
    scorers = [RougeL()] if scorers is None else list(scorers)
    names = [scorer.name for scorer in scorers]
    if len(set(names)) < len(names):
        raise ValueError(f"every scorer needs a name of its own, got {', '.join(names)}")
    movies = in_time_order(rows)
    skipped = {movie: len(scenes) for movie, scenes in movies.items() if len(scenes) < n}
    scored = {movie: texts(scenes) for movie, scenes in movies.items() if movie not in skipped}
    warn_of_skipped(skipped, len(scored), n)
    windows: dict[str, dict[str, np.ndarray]] = {movie: {} for movie in scored}
    for scorer in scorers:
        for movie, blocks in zip(scored, window_scores(list(scored.values()), scorer, n), strict=True):
            for x, share in hit_shares(torch.from_numpy(blocks), k, ties).items():
                windows[movie][f"R@{x}/{n}[{scorer.name}]"] = 100 * share.numpy()
    return Recalls(windows, skipped, n)


def in_time_order(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Rows by movie, in time order, whatever their order from several ranks."""
    for number, row in enumerate(rows):
        if not math.isfinite(row["start"]):
            raise ValueError(f"row {number} (movie {row['movie']}): start must be a finite number, got {row['start']}")
        for name in ("generated", "reference"):
            if not isinstance(row[name], str):
                raise ValueError(f"row {number} (movie {row['movie']}): {name} must be text, got {row[name]!r}")
    movies: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (row["movie"], row["start"], row.get("end", 0), row.get("ann_id", 0))):
        movies.setdefault(row["movie"], []).append(row)
    return movies


def texts(scenes: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    return [scene["generated"] for scene in scenes], [scene["reference"] for scene in scenes]


def warn_of_skipped(skipped: Mapping[str, int], scored: int, n: int) -> None:
    if skipped and not scored:
        log.warning("no movie has the %d sentences that recall within %d neighbours needs: it is left out", n, n)
    elif skipped:
        named = ", ".join(f"{movie} ({length})" for movie, length in list(skipped.items())[:SHOWN])
        rest = f" and {len(skipped) - SHOWN} more" if len(skipped) > SHOWN else ""
        log.warning(
            "%d of %d movies have fewer than %d sentences and are left out of recall within neighbours: %s%s",
            len(skipped), len(skipped) + scored, n, named, rest,
        )  # fmt: skip


def window_scores(movies: Sequence[tuple[list[str], list[str]]], scorer: Scorer, n: int):
    """For every movie the scores of its windows, (W, n, n): rows generated sentences, columns references.

    Encoded sentences are kept as long as a later movie needs them.
    """
    last = {sentence: number for number, pair in enumerate(movies) for sentences in pair for sentence in sentences}
    known: dict[str, Any] = {}
    for number, (generated, references) in enumerate(movies):
        sentences = list(dict.fromkeys([*generated, *references]))
        new = [sentence for sentence in sentences if sentence not in known]
        known.update(zip(new, scorer.encode(new), strict=True))
        index = {sentence: i for i, sentence in enumerate(sentences)}
        rows, columns = (np.array([index[sentence] for sentence in side]) for side in (generated, references))
        places = window_places(len(generated), n)
        codes = rows[places][:, :, None] * len(sentences) + columns[places][:, None, :]  # (W, n, n): one per pair
        distinct, inverse = np.unique(codes, return_inverse=True)
        pairs = np.stack(np.divmod(distinct, len(sentences)), axis=1)  # (P, 2)
        scores = np.asarray(scorer.score([known[sentence] for sentence in sentences], pairs), dtype=np.float64)
        if scores.shape != distinct.shape or not np.isfinite(scores).all():
            raise ValueError(
                f"scorer {scorer.name} must give a finite number for each of {len(distinct)} pairs; it gave "
                f"{scores.shape} numbers, {int((~np.isfinite(scores)).sum())} of them not finite"
            )
        yield scores[inverse.reshape(codes.shape)]
        known = {sentence: value for sentence, value in known.items() if last[sentence] > number}
