"""Checks of MAD's feature files: which movies, which shapes, and (deep) which values."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import numpy as np

from datamodules.audio_description.rows import MovieFeatures
from datamodules.errors import DataError
from scripts.checks.report import Report

UNREADABLE = "cannot be read (stops training)"
MISSING = "movie without features (stops training)"
WIDTH = "another width than configured (stops training)"
NO_ROWS = "movie without rows"
TRACKS = "tracks of a movie differ by more than a second (stops training)"
TRACKS_CUT = "tracks of a movie differ by up to a second (training cuts to the shorter)"
NOT_FINITE = "feature rows with NaN or infinity (stops training)"
ZERO = "feature rows that are zero"

SLACK = 1.0  # seconds
BLOCKS, BLOCK = 20, 25  # a sample of a movie: number of slices, evenly spread over it, and rows per slice
READ = 4096  # rows per read when all rows are read

Depth = Literal["sample", "all"]


def check_shapes(report: Report, features: MovieFeatures, movies: Iterable[str]) -> dict[str, int]:
    """Rows of every movie that could be read as features; faults of the others are reported."""
    try:
        there = features.movies()
    except (DataError, OSError) as error:
        report.add(UNREADABLE, features.path, [str(error)])
        return {}
    bare = {key.lstrip("0"): key for key in there}
    rows = {}
    for movie in movies:
        if movie not in there:
            twin = bare.get(movie.lstrip("0"))
            report.add(MISSING, features.path, [movie + (f" (it has {twin})" if twin else "")])
            continue
        try:
            shape = features.shape(movie)
        except DataError as error:
            report.add(UNREADABLE, features.path, [str(error)])
            continue
        if len(shape) != 2 or shape[1] != features.width:
            report.add(WIDTH, features.path, [f"{movie} {shape}, expected (rows, {features.width})"])
            continue
        if not shape[0]:
            report.add(NO_ROWS, features.path, [movie])
            continue
        rows[movie] = shape[0]
    return rows


def check_tracks(report: Report, video: dict[str, int], audio: dict[str, int], fps: float) -> None:
    """Lengths of the two tracks of each movie that has both."""
    for movie in video.keys() & audio.keys():
        if video[movie] != audio[movie]:
            close = abs(video[movie] - audio[movie]) <= SLACK * fps
            kind = TRACKS_CUT if close else TRACKS
            name = f"{movie} ({video[movie]} video rows, {audio[movie]} audio rows)"
            report.add(kind, "video and audio", [name], note=close)


def check_values(
    report: Report, features: MovieFeatures, rows: dict[str, int], depth: Depth, tick: Callable[[], None]
) -> None:
    """NaN, infinity and zero rows, of every movie; tick is called after each. Reads slice by slice."""
    for movie, count in rows.items():
        bad: dict[str, list[int]] = {NOT_FINITE: [], ZERO: []}
        read = 0
        try:
            for first, stop in slices(count, depth):
                values = features.slice(movie, first, stop).astype(np.float32)
                read += len(values)
                bad[NOT_FINITE] += (first + np.flatnonzero(~np.isfinite(values).all(1))).tolist()
                bad[ZERO] += (first + np.flatnonzero((values == 0).all(1))).tolist()
        except DataError as error:
            report.add(UNREADABLE, features.path, [str(error)])
        for kind, found in bad.items():
            if found:
                name = f"{movie} ({len(found)} of the {read} rows that were read, the first is row {found[0]})"
                report.add(kind, features.path, [name])
        tick()


def slices(count: int, depth: Depth) -> Iterator[tuple[int, int]]:
    """(start, stop) of the rows to read of `count`: all of them, or evenly spread blocks from the first to the last."""
    if depth == "all" or count <= BLOCKS * BLOCK:
        yield from ((first, min(first + READ, count)) for first in range(0, count, READ))
    else:
        firsts = np.linspace(0, count - BLOCK, BLOCKS).round().astype(int).tolist()
        yield from ((first, first + BLOCK) for first in firsts)
