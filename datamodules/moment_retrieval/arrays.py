"""Any video and queries, given as arrays, in batches as `datamodules/moment_retrieval/datamodule.py` makes them.

    for batch in moment_batches(facts, {"slowfast_features": a, "clip_features": b}, [query], stride=None):
        model(batch["video"], batch["video_keep"], batch["text"], batch["text_keep"])

Features are finished by the code that finishes those of a data set. A video longer than what a model is trained on is
cut into excerpts of that length, which overlap; each is a video of its own, so its clips' places (tef) run from 0 to 1.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DataError, some
from datamodules.moment_retrieval.dataset import Features, Lengths, padded
from datamodules.moment_retrieval.rates import check_rows
from datamodules.streams import Stream, StreamSettings

PLACE = 2  # features that say where a clip begins and ends (tef)
SLACK = 1  # clips by which streams may differ: cut to the shortest


class Clips(Stream):
    """The clips of one stream, from an excerpt's first one on."""

    def __init__(self, name: str, values: Any, width: int):
        super().__init__(name, StreamSettings(path=name, dim=width), Path(name))
        self.values = self.checked(numbers(values, f"stream {name}", width, "clips"), f"stream {name}")

    def file_of(self, row: Mapping[str, Any]) -> int:
        return row["first"]

    def read(self, file: int, *, about: str, limit: int | None = None) -> np.ndarray:
        return self.values[file:][:limit]


class Tokens(Stream):
    """The tokens of every query."""

    def __init__(self, queries: Sequence[Any], width: int):
        super().__init__("query", StreamSettings(path="query", dim=width), Path("query"))
        names = [f"query {number}" for number in range(len(queries))]
        self.values = [
            self.checked(numbers(query, name, width, "tokens"), name)
            for query, name in zip(queries, names, strict=True)
        ]

    def file_of(self, row: Mapping[str, Any]) -> int:
        return row["qid"]

    def read(self, file: int, *, about: str, limit: int | None = None) -> np.ndarray:
        return self.values[file][:limit]


def numbers(values: Any, name: str, width: int, rows: str) -> np.ndarray:
    """`values` as an array (rows, width); DataError: another shape."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{name}: rows of different lengths, expected ({rows}, {width}).") from error
    if array.ndim != 2 or array.shape[1] != width:
        raise DataError(f"{name}: shape {array.shape}, but the model was trained on ({rows}, {width}).")
    return array


def streams_of(facts: Mapping[str, Any], video: Any) -> tuple[dict[str, tuple[Any, int]], bool]:
    """A video's streams in the order of the training, each with the width that it needs, and whether tef follows.

    facts["streams"] (name -> width) and facts["tef"] (if missing: whether the widths leave room) say what the model was
    trained on. A stream goes to the place of its name, a stream of another name to the first place that is left.
    Without facts["streams"] they stay in the order in which they are given, and only the sum of widths can be checked.
    Raises DataError: too few streams, too many, no sum that fits.
    """
    trained = facts.get("streams")
    if not isinstance(video, Mapping):
        if trained is None or len(trained) != 1:
            told = f"it was trained on {_listed(trained)}" if trained else "its checkpoint does not say how many it has"
            raise DataError(f"the video is a single array, which a model of one stream takes; {told}: give a dict.")
        video = {next(iter(trained)): video}
    if trained is None:
        shapes = {name: np.shape(values) for name, values in video.items()}
        widths = {name: shape[1] if len(shape) == 2 else 0 for name, shape in shapes.items()}
        rest = facts["video_dim"] - sum(widths.values())
        if rest not in (0, PLACE) or not all(widths.values()):
            raise DataError(
                f"streams {_listed(shapes)}: (clips, features) that have {facts['video_dim'] - PLACE} features "
                f"together, or {facts['video_dim']} if the model has no tef, are what the model was trained on."
            )
        return {name: (values, widths[name]) for name, values in video.items()}, rest == PLACE
    if len(video) != len(trained):
        raise DataError(
            f"{len(video)} streams ({some(video) or 'none'}), but the model was trained on {len(trained)}: "
            f"{_listed(trained)}."
        )
    others = iter([name for name in video if name not in trained])
    given = {name if name in video else next(others): width for name, width in trained.items()}
    tef = facts.get("tef", sum(trained.values()) != facts["video_dim"])
    return {name: (video[name], width) for name, width in given.items()}, tef


def excerpt_starts(clips: int, size: int, stride: int) -> list[int]:
    """First clips of excerpts of `size` clips, `stride` apart, the last one at the video's end.

    >>> excerpt_starts(100, 75, 37)
    [0, 25]
    """
    return [0] if clips <= size else [*range(0, clips - size, stride), clips - size]


def moment_batches(
    facts: Mapping[str, Any],
    video: Mapping[str, Any] | Any,
    queries: Sequence[Any],
    *,
    clip_length: float | None = None,
    duration: float | None = None,
    stride: int | None = None,
    batch_size: int = 32,
) -> Iterator[dict[str, Any]]:
    """Batches of the contract's video, video_keep, text, text_keep and annotation: every query, every excerpt.

    facts:       facts of the model: video_dim, text_dim, clips, tokens, clip_length; streams, tef as in `streams_of`.
    video:       name -> (T, width) features as they come from the extractor, T clips; or one array, for one stream.
    queries:     for each query (N, text_dim) features of its tokens; those after facts["tokens"] tokens are not read.
    clip_length: seconds a clip lasts; None is facts["clip_length"].
    duration:    seconds the video lasts; None is T x clip_length.
    stride:      clips from one excerpt to the next, 1..facts["clips"]; None is half an excerpt.
    An annotation has: qid (the query's place in `queries`), vid, first (clip of the excerpt), duration (of the excerpt,
    seconds), whole (duration of the video).
    Raises DataError at the first batch: shapes and widths that do not fit, empty arrays, NaN, streams that differ by
    more than a clip, rows that do not fit the duration (rates.py), other options out of their range.
    """
    size = facts["clips"]
    clip_length = facts["clip_length"] if clip_length is None else clip_length
    stride = max(1, size // 2) if stride is None else stride
    _check_options(clip_length, stride, size, batch_size)
    if not len(queries):
        raise DataError("no query; at least one is needed.")
    if getattr(queries, "ndim", 3) == 2:
        raise DataError(f"queries are one array {np.shape(queries)}: give a list of arrays, one per query.")
    streams, tef = streams_of(facts, video)
    sources = [Clips(name, values, width) for name, (values, width) in streams.items()]
    counts = {source.name: len(source.values) for source in sources}
    clips = min(counts.values())
    if max(counts.values()) - clips > SLACK:
        raise DataError(
            f"streams of different lengths: {some(f'{count} clips in {name}' for name, count in counts.items())}. "
            f"They may differ by {SLACK}."
        )
    duration = clips * clip_length if duration is None else duration
    said = f"the video is said to last {duration:g} s"
    if not 0 < duration < math.inf:
        raise DataError(f"{said}; a video lasts more than 0 s.")
    check_rows(counts, duration, clip_length=clip_length, slack=SLACK, length=f"but {said}")
    for source in sources:
        source.values = source.values[:clips]
    lengths = Lengths(size, facts["tokens"], max_windows=0, clip_length=clip_length, length_slack=SLACK)
    features = Features(sources, Tokens(queries, facts["text_dim"]), lengths, tef=tef, hold=True)
    starts = excerpt_starts(clips, size, stride)
    rows = [
        {
            "qid": number,
            "vid": f"clip {first} on",
            "first": first,
            "duration": duration if len(starts) == 1 else size * clip_length,
            "whole": duration,
        }
        for number in range(len(queries))
        for first in starts
    ]
    for begin in range(0, len(rows), batch_size):
        chosen = rows[begin : begin + batch_size]
        (clip, clip_keep), (text, text_keep) = (
            padded([read(row) for row in chosen]) for read in (features.video, features.text)
        )
        yield {"video": clip, "video_keep": clip_keep, "text": text, "text_keep": text_keep, "annotation": chosen}


def _check_options(clip_length: float, stride: int, size: int, batch_size: int) -> None:
    if not 0 < clip_length < math.inf:
        raise DataError(f"clip_length is {clip_length!r}: a clip lasts more than 0 s.")
    if isinstance(stride, bool) or not isinstance(stride, int) or not 1 <= stride <= size:
        raise DataError(f"stride is {stride!r}, allowed are 1 to {size} clips: what is further apart leaves gaps.")
    if batch_size < 1:
        raise DataError(f"batch_size is {batch_size}, the least is 1.")


def _listed(streams: Mapping[str, Any]) -> str:
    return some(f"{name} {size}" for name, size in streams.items()) or "none"
