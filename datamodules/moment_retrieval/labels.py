"""What a model of moments and highlights is trained on: spans, and clips whose saliency it must order.

    moment_spans([[26, 36]], clips=75, clip_length=2.0, most=5, rng=rng)          # [[0.2067, 0.0667]] centre, width
    scores, more, less = annotated_saliency([13, 14], [[4, 3, 3], [2, 1, 1]], 75, rng)   # (75,), (2,), (2,)

They are QD-DETR's labels (section 3.4 of its paper; Moment-DETR's before it). The annotation that they are made from is
not changed. Every random choice comes from `rng`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from configs.knobs import Count, Finite, Positive

PAIRS = 2  # pairs of clips whose saliency is compared


@dataclass(frozen=True)
class LabelSettings:
    """Scores that raters give to every clip of a video, in data sets of highlights alone, and how they are scored."""

    lowest: Finite = 0.0  # that a rater can give
    highest: Finite = 1.0
    score: Positive = 12.0  # what a clip is trained on whose raters all give the highest; the lowest is 0
    top: Count | None = None  # best clips whose average precision is the metric (TVSum: 5); null: all clips
    positive: Literal["median", "lowest"] = "lowest"  # a clip is a highlight for a rater who gives more than that


def moment_spans(
    windows: Sequence[Sequence[float]], clips: int, clip_length: float, most: int, rng: np.random.Generator
) -> np.ndarray:
    """Windows in seconds -> (n, 2) float32 centre and width in [0, 1], as parts of clips * clip_length seconds.

    Of more than `most` windows, `most` are drawn at random and keep their order. What reaches past the last clip is cut
    off (the original leaves such spans beyond 1); n is 0 if nothing is left.
    """
    windows = np.asarray(windows, np.float64).reshape(-1, 2)
    if len(windows) > most:
        windows = windows[np.sort(rng.permutation(len(windows))[:most])]
    start, end = np.clip(windows / (clips * clip_length), 0.0, 1.0).T
    inside = end > start
    start, end = start[inside], end[inside]
    return np.stack([(start + end) / 2, end - start], axis=1).astype(np.float32)


def annotated_saliency(
    relevant: Sequence[int], scores: Sequence[Sequence[float]], clips: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Summed scores (clips,) float32, 0 outside the relevant clips; PAIRS more and PAIRS less salient clips, int64.

    First pair: the relevant clips with the highest and the lowest sum. Second pair: a random relevant clip and a random
    irrelevant one, or the first pair again if every clip is relevant. Clips past the last one do not count. Without a
    relevant clip all are clip 0: a pair of equal clips adds a constant to the hinge loss and has no gradient.
    """
    total = np.zeros(clips, np.float32)
    pairs = [(clip, sum(given)) for clip, given in zip(relevant, scores, strict=True) if clip < clips]
    if not pairs:
        return total, np.zeros(PAIRS, np.int64), np.zeros(PAIRS, np.int64)
    inside, sums = (np.array(values) for values in zip(*pairs, strict=True))
    total[inside] = sums
    order = np.argsort(sums, kind="stable")
    best, worst = inside[order[-1]], inside[order[0]]
    irrelevant = np.setdiff1d(np.arange(clips), inside)
    if not len(irrelevant):
        return total, np.array([best, best], np.int64), np.array([worst, worst], np.int64)
    more, less = rng.choice(inside), rng.choice(irrelevant)
    return total, np.array([best, more], np.int64), np.array([worst, less], np.int64)


def window_saliency(
    windows: Sequence[Sequence[float]], clips: int, clip_length: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same from windows alone: 1 inside, 0 outside; random clips inside against random clips outside.

    A clip counts as inside if it begins in a window and ends in it, or if the window is shorter than a clip and begins
    in it. The original takes the first window only; the others would be negatives. Different clips are drawn if there
    are two; without any outside, or any inside, the clips of a pair are equal.
    """
    total = np.zeros(clips, np.float32)
    for start, end in windows:
        first = int(start / clip_length)
        total[first : max(first + 1, int(end / clip_length))] = 1.0
    inside, outside = np.flatnonzero(total > 0), np.flatnonzero(total == 0)
    more, less = (_draw(pool, rng) if len(pool) else None for pool in (inside, outside))
    if more is None or less is None:
        more = less = np.zeros(PAIRS, np.int64) if more is None else more
    return total, more, less


def label_saliency(
    labels: Sequence[Sequence[float]], clips: int, settings: LabelSettings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same from a score per rater for every clip: the mean over raters, from 0 to settings.score.

    First pair: the clips with the highest and the lowest score. Second pair: two random clips with different scores,
    the higher one first, or the first pair again if all scores are equal. Clips without a label have the score 0.
    """
    total = np.zeros(clips, np.float32)
    mean = np.asarray(labels, np.float64)[:clips].mean(1)
    total[: len(mean)] = settings.score * (mean - settings.lowest) / (settings.highest - settings.lowest)
    best, worst = int(total.argmax()), int(total.argmin())
    more = int(rng.integers(clips))
    others = np.flatnonzero(total != total[more])
    if not len(others):
        return total, np.full(PAIRS, best, np.int64), np.full(PAIRS, worst, np.int64)
    less = int(rng.choice(others))
    more, less = (more, less) if total[more] > total[less] else (less, more)
    return total, np.array([best, more], np.int64), np.array([worst, less], np.int64)


def _draw(pool: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(pool, PAIRS, replace=len(pool) < PAIRS).astype(np.int64)
