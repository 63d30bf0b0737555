"""A long video's moments and saliency from those of its excerpts, which overlap.

A moment that an excerpt's border cuts is continued in the next excerpt: `merged_moments` joins such parts, then removes
what was found twice. `merged_saliency` is a mean over the excerpts in which a clip was seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

COMPARABLE = 0.5  # parts of one moment: the lower score is at least this share of the higher one


class Moment(NamedTuple):
    """A moment in seconds of the whole video; seen: the part that the model saw when it found the moment."""

    start: float
    end: float
    score: float
    seen: tuple[float, float]


@dataclass(frozen=True)
class Excerpt:
    """What a model found in clips first, first + 1, ...: windows [start, end, score] in seconds of the excerpt."""

    first: int
    windows: Sequence[Sequence[float]]
    saliency: Sequence[float]

    def moments(self, clip_length: float) -> list[Moment]:
        """The windows in seconds of the whole video."""
        start = self.first * clip_length
        seen = (start, start + len(self.saliency) * clip_length)
        return [Moment(start + a, start + b, score, seen) for a, b, score in self.windows]


def merged_saliency(excerpts: Sequence[Excerpt]) -> np.ndarray:
    """(clips,): the mean over excerpts, each weighted by a clip's distance to its nearer border (1 at the border).

    The model scores clips against a token of the whole excerpt, so excerpts differ in level; the weights make one
    fade into the next.
    """
    total = np.zeros(max(excerpt.first + len(excerpt.saliency) for excerpt in excerpts))
    weight = np.zeros_like(total)
    for excerpt in excerpts:
        size = len(excerpt.saliency)
        inward = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1))
        where = slice(excerpt.first, excerpt.first + size)
        total[where] += inward * np.asarray(excerpt.saliency)
        weight[where] += inward
    return total / weight


def merged_moments(excerpts: Sequence[Excerpt], clip_length: float, overlap: float, most: int) -> list[Moment]:
    """At most `most` moments of the whole video, best first. excerpts: in the order of their first clips.

    Moments that fit (`joined`) are joined, excerpt after excerpt, each at most once, highest scores first. Then, as in
    non-maximum suppression, a moment is removed if a better one, cut to what was seen when this one was found, overlaps
    it by an IoU above `overlap`: so parts of a moment are removed as well.
    """
    moments: list[Moment] = []
    for excerpt in excerpts:
        new = excerpt.moments(clip_length)
        moments = _joined_to(moments, new, clip_length)
    kept: list[Moment] = []
    for moment in sorted(moments, key=lambda m: (-m.score, m.start - m.end)):
        if all(iou(_within(better, moment.seen), moment[:2]) <= overlap for better in kept):
            kept.append(moment)
            if len(kept) == most:
                break
    return kept


def _joined_to(moments: list[Moment], new: list[Moment], tolerance: float) -> list[Moment]:
    pairs = []
    for i, old in enumerate(moments):
        for j, other in enumerate(new):
            if old.seen[1] >= other.seen[0] and (whole := joined(old, other, tolerance)) is not None:
                pairs.append((old.score + other.score, i, j, whole))
    olds, others, wholes = set(), set(), []
    for _, i, j, whole in sorted(pairs, key=lambda pair: -pair[0]):
        if i not in olds and j not in others:
            olds.add(i)
            others.add(j)
            wholes.append(whole)
    left = [moment for i, moment in enumerate(moments) if i not in olds]
    return left + [moment for j, moment in enumerate(new) if j not in others] + wholes


def joined(a: Moment, b: Moment, tolerance: float) -> Moment | None:
    """The moment of which `a` and `b` are parts, with the higher of their scores; None if they are not parts of one.

    They are parts of one if their hull, cut to what each saw, is what each found (up to `tolerance` seconds at both
    ends), one of the two did not see all of it, and their scores are COMPARABLE.
    """
    hull = Moment(min(a.start, b.start), max(a.end, b.end), max(a.score, b.score), _hull(a.seen, b.seen))
    for part in (a, b):
        start, end = _within(hull, part.seen)
        if abs(start - part.start) > tolerance or abs(end - part.end) > tolerance:
            return None
    cut = any(_within(hull, part.seen) != hull[:2] for part in (a, b))
    return hull if cut and min(a.score, b.score) >= COMPARABLE * hull.score else None


def iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Intersection over union of two windows; equal ones have 1 even if they are empty."""
    common = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - common
    return common / union if union > 0 else float(a == b)


def _within(moment: Moment, seen: tuple[float, float]) -> tuple[float, float]:
    """The part of a moment in a stretch of the video; if there is none, it is empty and at the stretch's border."""
    start, end = (min(max(value, seen[0]), seen[1]) for value in moment[:2])
    return start, end


def _hull(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return min(a[0], b[0]), max(a[1], b[1])
