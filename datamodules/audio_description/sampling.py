"""Which feature rows represent a segment: a fixed number of tokens out of any number of rows.

    segment_pad   the segment's rows; more than `tokens` are thinned evenly, fewer are padded (keep False)
    window        `tokens` consecutive rows centred on the segment, moved into the movie; padded if the movie is shorter
    linspace      `tokens` rows spread evenly over the segment, repeated if it is shorter; never padded

The paper does not say which rule it used; 25 tokens at 5 rows per second are 5 s.
"""

import math

import numpy as np

SAMPLINGS = ("segment_pad", "window", "linspace")


def segment_rows(start: float, end: float, fps: float, length: int) -> tuple[int, int]:
    """Rows first..stop-1 that [start, end) seconds touch in a movie of `length` rows; at least one.

    first >= length if the segment begins after the features end: the caller leaves such a segment out.
    """
    first = math.floor(start * fps)
    stop = min(math.ceil(end * fps), length)
    return first, max(stop, first + 1)


def sample_rows(first: int, stop: int, length: int, tokens: int, policy: str) -> np.ndarray:
    """Rows of the tokens, (tokens,) int64 in [0, length), -1 = padding, for a segment first..stop-1."""
    count = stop - first
    if policy == "linspace" or (policy == "segment_pad" and count > tokens):
        return np.linspace(first, stop - 1, tokens).round().astype(np.int64)
    if policy == "window":
        first = (first + stop - tokens) // 2
        first = max(0, min(first, length - tokens))
        stop = min(first + tokens, length)
    elif policy != "segment_pad":
        raise ValueError(f"sampling is {policy!r}, allowed: {', '.join(SAMPLINGS)}")
    rows = np.full(tokens, -1, np.int64)
    rows[: stop - first] = np.arange(first, stop)
    return rows
