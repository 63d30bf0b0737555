"""Feature rows that are made while a movie is read, in order, and forgotten behind: for movies of any length.

    rows = StreamedRows(PictureRows("movie.mp4", 5.0, clip), "movie")   # clip.rows(pictures, batch) encodes them
    rows.reach([(100, 125), (900, 925)])         # reads on until these rows are there, or the movie ends
    rows.read("movie", 100, 125)                 # (25, width) float32; all other rows are gone
    rows.count                                   # rows so far; all of them if rows.ended

The rows of a data set (scripts/prepare_movies.py) are made by the same `PictureRows` and `SoundRows`, CHUNK rows at a
time from row 0 on: they are equal to the last digit. A chunk that is not asked for is decoded, not encoded.
"""

from collections.abc import Sequence
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from datamodules.audio_description.rows import MovieFeatures
from datamodules.errors import DataError
from datamodules.formats.clip_frames import ClipFrames

CHUNK = 32  # rows that are made together


class Source(Protocol):
    """Makes the rows of a movie, one chunk after the other."""

    path: Path
    width: int

    def next(self, wanted: bool) -> tuple[int, np.ndarray | None]:
        """How many rows come next (0: the movie has ended), and the rows (count, width) if they are `wanted`."""
        ...


class PictureRows:
    """CLIP's rows of a video file, `fps` per second: the picture in the middle of each row's time (clip_frames.py)."""

    def __init__(self, path: str | Path, fps: float, clip: Any):
        """clip: has video_dim and rows(pictures, batch_size) -> (N, video_dim) float32; None if none is ever wanted.

        DataError: no such file.
        """
        self.path, self.clip = Path(path), clip
        self.width = 0 if clip is None else clip.video_dim
        self.pictures = iter(ClipFrames(self.path, Fraction(1) / Fraction(str(fps))))

    def next(self, wanted: bool) -> tuple[int, np.ndarray | None]:
        """DataError: damaged, truncated, without pictures."""
        chunk = islice(self.pictures, CHUNK)
        if not wanted:
            return sum(1 for _ in chunk), None
        first = next(chunk, None)
        if first is None:
            return 0, None
        rows = self.clip.rows(chain([first], chunk), CHUNK)
        return len(rows), rows


class FileRows:
    """Rows of an array (T, width) that were made elsewhere, for a Source's place."""

    def __init__(self, path: Path, array: np.ndarray):
        """DataError: not a matrix of numbers."""
        if array.ndim != 2 or array.dtype.kind not in "fiu" or not len(array):
            raise DataError(f"{path}: has {array.dtype} of shape {array.shape}, expected numbers (rows, width).")
        self.path, self.array, self.width, self.done = path, array, array.shape[1], 0

    def next(self, wanted: bool) -> tuple[int, np.ndarray | None]:
        chunk = self.array[self.done : self.done + CHUNK]
        self.done += len(chunk)
        return len(chunk), np.array(chunk) if wanted else None


class StreamedRows(MovieFeatures):
    """What `Track` reads a movie from: rows that `reach` made and did not forget yet."""

    def __init__(self, source: Source, movie: str):
        self.source, self.movie = source, movie
        self.path, self.width = source.path, source.width
        self.held: list[tuple[int, np.ndarray]] = []  # (first row, rows) of chunks
        self.count, self.ended = 0, False

    def reach(self, spans: Sequence[tuple[int, int]]) -> None:
        """Makes rows first..stop-1 of each span, as far as the movie has them, and forgets the chunks of no span.

        The least `first` never goes back from one call to the next. DataError of the source.
        """

        def wanted(begin: int) -> bool:
            return any(first < begin + CHUNK and stop > begin for first, stop in spans)

        self.held = [(begin, rows) for begin, rows in self.held if wanted(begin)]
        while self.count < max(stop for _, stop in spans) and not self.ended:
            count, rows = self.source.next(wanted(self.count))
            if rows is not None:
                self.held.append((self.count, rows))
            self.count, self.ended = self.count + count, not count

    def movies(self) -> set[str]:
        return {self.movie}

    def shape(self, movie: str) -> tuple[int, ...]:
        return self.count, self.width

    def slice(self, movie: str, first: int, stop: int) -> np.ndarray:
        chunks = [(begin, rows) for begin, rows in self.held if begin < stop and begin + len(rows) > first]
        begin = chunks[0][0]
        return np.concatenate([rows for _, rows in chunks])[first - begin : stop - begin]

    def version(self) -> tuple[int, ...]:
        about = self.path.stat()
        return about.st_size, about.st_mtime_ns
