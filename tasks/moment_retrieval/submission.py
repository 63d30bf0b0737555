"""Submissions and ground truth of QVHighlights, checked and put into arrays. The files have one JSON object per line:

    submission    {"qid": 2579, "vid": "NUsG9BgSes0_210.0_360.0", "pred_relevant_windows": [[0.0, 70.0, 0.9986], ...],
                   "pred_saliency_scores": [-0.24, ...]}
    ground truth  {"qid": 2579, "vid": "NUsG9BgSes0_210.0_360.0", "duration": 150, "relevant_windows": [[82, 150]],
                   "relevant_clip_ids": [41, ...], "saliency_scores": [[1, 1, 2], ...]}

    rows = read_jsonl("submission.jsonl")        # tasks.common.files: a list of dicts that knows the line of each
    pairs = pair(rows, read_jsonl("truth.jsonl"), clip_length=2.0, max_windows=10)

A window is [start, end] in seconds, a predicted one [start, end, score]. A saliency list has a number per clip. A
submission needs no vid; if it has one, it must be that of the ground truth.
Letters: Q queries, P predicted windows, G true windows, C clips, A annotators.
"""

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np

from datamodules.defects import LISTED
from datamodules.moment_retrieval.defects import SALIENCY
from datamodules.moment_retrieval.legal import Tolerance, clips_of, scored_clips, window_faults
from tasks.common.errors import ScoringError
from tasks.common.files import JsonLines

log = logging.getLogger(__name__)


HINT = (
    "defects=clip cuts windows and clips at the ends of their video, defects=drop leaves out these queries, "
    "unmatched=skip those without a window (of the command: --defects, --unmatched)"
)


class SubmissionError(ScoringError):
    """A submission or its ground truth cannot be scored. The message names the query, its video, file and line."""


class Pairs(NamedTuple):
    """Predictions beside their truth, one row per query in the order of the ground truth."""

    first: np.ndarray  # (Q, 2) the window that the submission lists first; zeros if there is none
    windows: np.ndarray  # (Q, P, 2) by falling score; missing ones are zeros
    truth: np.ndarray  # (Q, G, 2) seconds
    is_truth: np.ndarray  # (Q, G) bool, False in the padding
    saliency: "Saliency | None"  # None unless both files have saliency
    listed: np.ndarray  # (Q, L, 2) all windows as the submission lists them; missing ones are zeros
    scores: np.ndarray  # (Q, L) their scores, -inf for missing ones
    duration: np.ndarray  # (Q,) seconds


class Saliency(NamedTuple):
    """Predicted and annotated saliency of every clip."""

    top: np.ndarray  # (Q,) the clip with the highest predicted score, the first of equals; may lie behind the video
    scores: np.ndarray  # (Q, C) predicted
    is_clip: np.ndarray  # (Q, C) bool, False in the padding
    levels: np.ndarray  # (Q, C, A) annotated, 0 for irrelevant clips


def pair(
    submission: Sequence[Mapping],
    ground_truth: Sequence[Mapping],
    clip_length: float,
    max_windows: int,
    tolerance: Tolerance | None = None,
) -> Pairs:
    """Checks both and puts them into arrays.

    tolerance: how far true windows may lie outside their video; None is a clip on both sides.

    Legal: fewer or more than max_windows windows, none, equal scores, predicted windows that are empty, reversed or
    outside the video; true windows that overlap or are empty; a saliency list that is one clip short (features often
    lack the last, cut clip; it counts as 0, as in the original) or too long (the end is ignored).

    Raises SubmissionError: a missing key, a qid twice in one of the two, queries in only one of them, another video
    than that of the ground truth, NaN or infinite numbers, a list of the wrong shape, no true window, a true window
    that is reversed or outside the video, a relevant clip outside the video or twice, a saliency list that is more than
    a clip short, saliency in some rows only. Of the true windows and clips it lists every defect.
    """
    predicted, true = matched(submission, ground_truth)
    tolerance = Tolerance(clip_length, clip_length, empty=True) if tolerance is None else tolerance
    end = true.numbers("duration", "seconds")
    true.refuse(end <= 0, lambda i: f"duration must be above 0, got {end[i]:g}")
    truth, count = true.ragged("relevant_windows", (2,), "[start, end] in seconds")
    true.note(
        count == 0, lambda i: "relevant_windows is empty: neither a recall nor a precision is defined without a window"
    )
    is_truth = _places(truth) < count[:, None]
    faults = window_faults(truth[..., 0], truth[..., 1], end[:, None], tolerance)
    allowed = f"{tolerance.after:g} s, one clip," if tolerance.after == clip_length else f"{tolerance.after:g} s"
    for fault, what in (("reversed", "is reversed"), ("outside", "lies outside the video")):
        wrong = faults[fault] & is_truth
        true.note(
            wrong.any(1),
            lambda i, wrong=wrong, what=what: (
                f"true window {truth[i][wrong[i].argmax()].tolist()} {what} "
                f"(0 to {end[i]:g} s; {allowed} beyond are allowed)"
            ),
        )
    rated = _rated(predicted, true, end, clip_length)
    true.refuse_noted()

    windows, count = predicted.ragged("pred_relevant_windows", (3,), "[start, end, score]")
    first, listed_windows = windows[:, 0, :2], windows[..., :2]
    scores = np.where(_places(windows) < count[:, None], windows[..., 2], -np.inf)
    windows, listed = windows[:, :max_windows], _places(windows)[:, :max_windows] < count[:, None]
    order = np.argsort(np.where(listed, -windows[..., 2], np.inf), axis=1, kind="stable")
    windows = np.take_along_axis(windows, order[..., None], axis=1)[..., :2]

    saliency = None if rated is None else _saliency(predicted, end, *rated)
    return Pairs(first, windows, truth, is_truth, saliency, listed_windows, scores, end)


def matched(submission: Sequence[Mapping], ground_truth: Sequence[Mapping]) -> tuple["Table", "Table"]:
    """Both as tables, predictions in the truth's order. SubmissionError: a qid twice, other queries in one of them."""
    predicted, true = Table(submission, "the submission"), Table(ground_truth, "the ground truth")
    queries = true.by_qid()
    where = predicted.by_qid()
    return predicted.ordered(_same_queries(predicted, where, true, queries), true), true


def _rated(
    predicted: "Table", true: "Table", end: np.ndarray, clip_length: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Number of scored clips (Q,) and annotated levels (Q, C, A); None unless both files have saliency."""
    has_truth = [true.everywhere(name) for name in SALIENCY]
    if not any(has_truth):
        return None
    if not all(has_truth):
        raise SubmissionError(
            f"{true.name} has {SALIENCY[has_truth.index(True)]} but no {SALIENCY[has_truth.index(False)]}"
        )
    if not predicted.everywhere("pred_saliency_scores"):
        log.warning("%s has no pred_saliency_scores: highlight detection is not scored", predicted.name)
        return None

    legal = clips_of(end, clip_length)
    ids, count = true.ragged("relevant_clip_ids", (), "the number of a clip")
    given = _places(ids) < count[:, None]
    wrong = given & ((ids < 0) | (ids >= legal[:, None]) | (ids != np.floor(ids)))
    true.note(
        wrong.any(1),
        lambda i: (
            f"relevant clip {ids[i][wrong[i].argmax()]:g} is none of the video's {legal[i]} clips (0 to {legal[i] - 1})"
        ),
    )
    annotations, rated = true.ragged("saliency_scores", (None,), "a number per annotator")
    true.note(rated != count, lambda i: f"{rated[i]} saliency_scores for {count[i]} relevant_clip_ids")
    true.refuse_noted()
    ids = ids.astype(int)
    clips = scored_clips(end, clip_length, np.where(given, ids, -1).max(1))
    times = np.zeros((len(ids), clips.max()), dtype=int)
    levels = np.zeros((*times.shape, annotations.shape[-1]))
    query, place = np.nonzero(given)
    np.add.at(times, (query, ids[query, place]), 1)
    true.note((times > 1).any(1), lambda i: f"relevant clip {times[i].argmax()} is listed {times[i].max()} times")
    true.refuse_noted()
    levels[query, ids[query, place]] = annotations[query, place]
    return clips, levels


def _saliency(predicted: "Table", end: np.ndarray, clips: np.ndarray, levels: np.ndarray) -> Saliency:
    scores, length = predicted.ragged("pred_saliency_scores", (), "a number per clip")
    least = np.maximum(clips - 1, 1)
    predicted.refuse(
        length < least, lambda i: f"{length[i]} pred_saliency_scores for a video of {clips[i]} clips ({end[i]:g} s)"
    )
    top = np.where(_places(scores) < length[:, None], scores, -np.inf).argmax(1)
    scores = np.pad(scores, ((0, 0), (0, max(0, levels.shape[1] - scores.shape[1]))))[:, : levels.shape[1]]
    return Saliency(top, scores, _places(scores) < clips[:, None], levels)


class Table:
    """Rows of one of the two files, and their names in messages."""

    def __init__(
        self, rows: Sequence[Mapping], name: str, places: Sequence[str] = (), videos: Sequence[Any] | None = None
    ):
        self.rows, self.name, self.places, self.videos = rows, name, places, videos
        self.noted: list[tuple[int, str]] = []  # defects that are refused together: number of the row, what is wrong
        if isinstance(rows, JsonLines):
            self.name, self.places = str(rows.path), [f"line {line}" for line in rows.lines]
        elif not places:
            self.places = [f"row {i}" for i in range(len(rows))]

    def ordered(self, order: Sequence[int], truth: "Table") -> "Table":
        """The rows beside those of the truth, whose videos the messages name."""
        rows = [self.rows[i] for i in order]
        table = Table(rows, self.name, [self.places[i] for i in order], [row.get("vid") for row in truth.rows])
        for i, row in enumerate(rows):
            if "vid" in row and "vid" in truth.rows[i] and row["vid"] != table.videos[i]:
                table.refuse_row(i, f"predicts video {row['vid']!r}, but the ground truth's is {table.videos[i]!r}")
        return table

    def by_qid(self) -> dict[Hashable, int]:
        """qid -> number of its row."""
        places: dict[Hashable, int] = {}
        for i in range(len(self.rows)):
            qid = self.value(i, "qid")
            if not isinstance(qid, (int, str)):
                self.refuse_row(i, f"qid must be a number or a name, got {qid!r}")
            if qid in places:
                self.refuse_row(i, f"the qid is already that of {self.places[places[qid]]}")
            places[qid] = i
        if not places:
            raise SubmissionError(f"{self.name} has no queries")
        return places

    def value(self, i: int, key: str) -> Any:
        row = self.rows[i]
        if key not in row:
            near = get_close_matches(key, [str(name) for name in row], n=1, cutoff=0.6)
            hint = f"; did you mean its {near[0]!r}?" if near else f"; it has {', '.join(map(str, row)) or 'none'}"
            self.refuse_row(i, f"has no key {key!r}{hint}")
        return row[key]

    def everywhere(self, key: str) -> bool:
        """Whether the rows have this key. Raises SubmissionError if only some of them do."""
        have = [key in row for row in self.rows]
        if any(have) and not all(have):
            self.refuse_row(have.index(False), f"has no key {key!r}, which {sum(have)} other rows have")
        return all(have)

    def numbers(self, key: str, what: str) -> np.ndarray:
        """One number per row, (Q,)."""
        values = np.stack([self.array(i, key, (), what) for i in range(len(self.rows))])
        self.refuse_non_finite(values, key)
        return values

    def ragged(self, key: str, item: tuple, what: str) -> tuple[np.ndarray, np.ndarray]:
        """One list per row, filled up with zeros: (Q, longest or 1, *item), and the lengths (Q,).

        item: the shape of one entry; None in it is a size that all rows share, whatever it is.
        """
        arrays = [self.array(i, key, (-1, *item), what) for i in range(len(self.rows))]
        lengths = np.array([len(array) for array in arrays])
        sizes = [array.shape[1:] for array in arrays if len(array)]
        size = sizes[0] if sizes else tuple(side or 1 for side in item)
        for i, array in enumerate(arrays):
            if len(array) and array.shape[1:] != size:
                self.refuse_row(i, f"{key}: {array.shape[1]} numbers per entry, but {size[0]} in the rows before")
        table = np.zeros((len(arrays), max(lengths.max(), 1), *size))
        for row, array in zip(table, arrays, strict=True):
            if len(array):
                row[: len(array)] = array
        self.refuse_non_finite(table, key)
        return table, lengths

    def array(self, i: int, key: str, shape: tuple, what: str) -> np.ndarray:
        """The value as numbers; shape: -1 any length, None any size of at least 1."""
        value = self.value(i, key)
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            array = None
        if array is not None and array.size == 0 and shape and array.ndim == 1:
            return array
        fits = array is not None and array.ndim == len(shape)
        if not fits or any(n != side for n, side in zip(array.shape, shape, strict=True) if side not in (-1, None)):
            wanted = f"a list, each entry {what}" if shape else what
            self.refuse_row(i, f"{key} must be {wanted}, got {_excerpt(value)}")
        return array

    def refuse_non_finite(self, values: np.ndarray, key: str) -> None:
        wrong = ~np.isfinite(values.reshape(len(values), -1))
        if wrong.any():
            i = int(wrong.any(1).argmax())
            number = values[i].flat[wrong[i].argmax()]
            entry = f" (entry {np.unravel_index(wrong[i].argmax(), values[i].shape)[0]})" if values.ndim > 1 else ""
            self.refuse_row(i, f"{key} has {number}{entry}; it must be finite")

    def refuse(self, wrong: np.ndarray, message: Callable[[int], str]) -> None:
        """Raises SubmissionError for the first row whose entry in `wrong` (Q,) is true."""
        if wrong.any():
            self.refuse_row(int(wrong.argmax()), message(int(wrong.argmax())))

    def note(self, wrong: np.ndarray, message: Callable[[int], str]) -> None:
        """Notes a defect of every row whose entry in `wrong` (Q,) is true, for `refuse_noted`."""
        self.noted += [(i, message(i)) for i in np.flatnonzero(wrong).tolist()]

    def refuse_noted(self) -> None:
        """Raises SubmissionError with all that was noted: LISTED of them in words, and their number."""
        if not self.noted:
            return
        if len(self.noted) == 1:
            self.refuse_row(*self.noted[0])
        lines = [f"{self.name}, {self.places[i]} ({self.query(i)}): {said}" for i, said in sorted(self.noted)[:LISTED]]
        more = f", of which {LISTED} are listed" if len(self.noted) > LISTED else ""
        raise SubmissionError("\n".join([*lines, f"{self.name}: {len(self.noted):,} defects{more}; {HINT}"]))

    def refuse_row(self, i: int, problem: str) -> None:
        raise SubmissionError(f"{self.name}, {self.places[i]} ({self.query(i)}): {problem}")

    def query(self, i: int) -> str:
        """The row's query and video as messages name them."""
        video = self.videos[i] if self.videos else self.rows[i].get("vid")
        return f"qid {self.rows[i].get('qid')!r}, vid {video!r}"


def _same_queries(predicted: Table, where: dict, true: Table, queries: dict) -> list[int]:
    """The prediction's row of every true query."""
    for these, others, table, problem in (
        (queries, where, true, f"queries of {true.name} have no prediction in {predicted.name}"),
        (where, queries, predicted, f"predictions in {predicted.name} are for no query of {true.name}"),
    ):
        alone = [f"{table.query(i)} ({table.places[i]})" for qid, i in these.items() if qid not in others]
        if alone:
            rest = f" and {len(alone) - 8} more" if len(alone) > 8 else ""
            raise SubmissionError(f"{len(alone)} {problem}: {'; '.join(alone[:8])}{rest}{_kinds(where, queries)}")
    return [where[qid] for qid in queries]


def _kinds(predicted: Mapping, true: Mapping) -> str:
    """A hint, if qids of the two files are equal as words and differ as values: "7" and 7."""
    alone = predicted.keys() - true.keys()
    missing = {str(qid): qid for qid in true.keys() - predicted.keys()}
    pair = next(((qid, missing[str(qid)]) for qid in alone if str(qid) in missing), None)
    if pair is None:
        return ""
    kinds = ("strings", "numbers") if isinstance(pair[0], str) else ("numbers", "strings")
    return (
        f". The submission's qids are {kinds[0]}, the ground truth's are {kinds[1]} ({pair[0]!r} and {pair[1]!r}): "
        f"write them as {kinds[1]}"
    )


def _places(table: np.ndarray) -> np.ndarray:
    return np.arange(table.shape[1])[None]


def _excerpt(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
