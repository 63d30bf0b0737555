"""What a description may use besides its own segment: the descriptions before it, and the subtitles before it.

previous = Previous(table, count=3)                    # table: segments in (movie, start) order
previous[7]                                            # up to 3 texts, oldest first
subtitles = Subtitles(lines, table, seconds=30.0)      # lines: movie, start, end, text in (movie, start) order
subtitles[7]                                           # texts of the lines heard in the 30 s before segment 7
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

Texts = Sequence[list[str]]  # one list of texts per segment


class Previous:
    """The last `count` descriptions of the same movie that precede a segment: those with an earlier start.

    Segments that begin together do not precede each other, so a row that is listed twice never gets its own text.
    """

    def __init__(self, table: pd.DataFrame, count: int):
        self.text = table["text"].tolist()
        movie, start = table["movie"].to_numpy(), table["start"].to_numpy()
        begins = _first_of_run(movie[1:] != movie[:-1])
        self.stop = _first_of_run((movie[1:] != movie[:-1]) | (start[1:] != start[:-1]))  # (S,)
        self.first = np.maximum(begins, self.stop - count)  # (S,)

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, index: int) -> list[str]:
        return self.text[self.first[index] : self.stop[index]]


class Subtitles:
    """Lines of the same movie that are heard within `seconds` before a segment begins, in (start) order.

    A line counts if it begins before the segment and ends after the window's start; it may go on into the segment.
    """

    def __init__(self, lines: pd.DataFrame, segments: pd.DataFrame, seconds: float):
        self.text, self.end = lines["text"].tolist(), lines["end"].to_numpy(np.float64)
        starts = segments["start"].to_numpy(np.float64)
        self.since = starts - seconds  # (S,)
        self.first, self.stop = np.zeros((2, len(segments)), np.int64)  # range of lines that holds a segment's
        places = lines.groupby("movie").indices
        for movie, rows in segments.groupby("movie").indices.items():
            if movie not in places:
                continue
            own = places[movie]
            latest = np.maximum.accumulate(self.end[own])  # the latest end of a line and all before it
            self.first[rows] = own[0] + np.searchsorted(latest, self.since[rows], side="right")
            self.stop[rows] = own[0] + np.searchsorted(lines["start"].to_numpy()[own], starts[rows], side="left")

    def __len__(self) -> int:
        return len(self.since)

    def __getitem__(self, index: int) -> list[str]:
        return [
            self.text[line] for line in range(self.first[index], self.stop[index]) if self.end[line] > self.since[index]
        ]


class Nothing:
    """No text for any of `size` segments: a recurrent evaluation fills in the descriptions that it made itself."""

    def __init__(self, size: int):
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> list[str]:
        return []


def context(
    table: pd.DataFrame,
    previous: Literal["none", "ground_truth", "predicted"],
    count: int,
    lines: pd.DataFrame | None,
    seconds: float,
) -> dict[str, Texts]:
    """What the batches of these segments hold besides descriptions: "previous" unless it is "none", and "subtitles" if
    there are lines."""
    texts: dict[str, Texts] = {}
    if previous != "none":
        texts["previous"] = Nothing(len(table)) if previous == "predicted" else Previous(table, count)
    if lines is not None:
        texts["subtitles"] = Subtitles(lines, table, seconds)
    return texts


def _first_of_run(changes: np.ndarray) -> np.ndarray:
    """Index of the first element of each element's run; changes (S - 1,): True where an element begins a new run."""
    index = np.arange(len(changes) + 1)
    return np.maximum.accumulate(np.where(np.concatenate([[True], changes]), index, 0))
