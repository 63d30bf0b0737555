"""Windows that are worth showing: each has a length, no two are equal, and none overlaps a better one too much.

    distinct([[0, 4, 0.9], [6, 6, 0.5], [0, 4, 0.4]], [[0.3, 3.6, 0.9], [5.7, 6.2, 0.5], [0.4, 4.1, 0.4]])
    # [[0, 4, 0.9], [5.7, 6.2, 0.5]]

Evaluation keeps all windows, as published: rounding to whole clips makes some equal and some empty, which costs nothing
there. To a reader of answers they are mistakes.
"""

from collections.abc import Sequence

from tasks.moment_retrieval.excerpts import iou

Window = Sequence[float]  # start and end in seconds, score


def lengthy(rounded: Sequence[Window], exact: Sequence[Window]) -> list[Window]:
    """The rounded windows; one that rounding emptied stays as it was before; without one that was empty before as well.

    exact: the same windows, in the same order, before they were rounded.
    """
    pairs = zip(rounded, exact, strict=True)
    kept = [window if window[1] > window[0] else before for window, before in pairs]
    return [window for window in kept if window[1] > window[0]]


def unlike(windows: Sequence[Window], overlap: float = 1.0) -> list[Window]:
    """Windows, best first, without those that equal a better one or overlap it by an IoU above `overlap`."""
    kept: list[Window] = []
    for window in windows:
        if all(iou(better[:2], window[:2]) <= overlap and better[:2] != window[:2] for better in kept):
            kept.append(window)
    return kept


def distinct(rounded: Sequence[Window], exact: Sequence[Window], overlap: float = 1.0) -> list[Window]:
    """Both, for windows best first."""
    return unlike(lengthy(rounded, exact), overlap)
