"""Defects of single annotations: what is wrong, and what is left of a row when that is cut away.

    list(window_defects({"duration": 20, "relevant_windows": [[4, 8], [18, 22]]}, Tolerance()))
    # [Defect("window outside the video", "window [18, 22] is outside the video, which has 20 s. ...")]
    repaired(row, Tolerance(), 2.0)["relevant_windows"]    # [[4, 8], [18, 20]]

The data module (data.defects) and the evaluator (--defects) treat them alike.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from datamodules.defects import Defect
from datamodules.errors import some
from datamodules.formats.json_text import is_number
from datamodules.moment_retrieval.legal import Tolerance, clips_of, window_faults

SALIENCY = ("relevant_clip_ids", "saliency_scores")
TOP_SCORE = 4  # "Very Good"; a rater gives 0..4
POLICIES = ("stop", "clip", "drop")

OUTSIDE = "window outside the video"
EMPTY = "window of no length"
REVERSED = "window that ends before it starts"
CLIP = "relevant clip outside the video"
WINDOW = "malformed window"
SCORES = "saliency scores that do not fit their clips"
LABELS = "malformed labels"
STRUCTURE = "malformed annotation"
CUTTABLE = (OUTSIDE, EMPTY, REVERSED, CLIP)


def window_defects(row: Mapping[str, Any], tolerance: Tolerance) -> Iterator[Defect]:
    """The defects of a row's windows; the row has a duration and the key relevant_windows."""
    windows, duration = row["relevant_windows"], row["duration"]
    if not isinstance(windows, list):
        hint = " (a set of highlights alone, with a label per clip, is read with data.saliency=labels)"
        hint = hint if windows is None and "label" in row else ""
        yield Defect(WINDOW, f"relevant_windows is {windows!r}, expected a list of [start, end]{hint}.")
        return
    for window in windows:
        if not isinstance(window, list) or len(window) != 2 or not all(map(is_number, window)):
            yield Defect(WINDOW, f"window {window!r}, expected [start, end] in seconds.")
            continue
        faults = window_faults(*window, duration, tolerance)
        if faults["reversed"]:
            yield Defect(REVERSED, f"window {window} ends before it starts; expected start < end, in seconds.")
        elif faults["empty"]:
            yield Defect(EMPTY, f"window {window} has no length; expected start < end, in seconds.")
        elif faults["outside"]:
            yield Defect(
                OUTSIDE,
                f"window {window} is outside the video, which has {duration} s. A window may end {tolerance.after} s "
                "after its video (data.window_slack).",
            )


def saliency_defects(row: Mapping[str, Any], clip_length: float) -> Iterator[Defect]:
    """The defects of a row's relevant clips and their scores; the row has a duration and both keys."""
    clips, scores = (row[key] for key in SALIENCY)
    if not isinstance(clips, list) or not isinstance(scores, list) or len(clips) != len(scores):
        sizes = [len(value) if isinstance(value, list) else repr(value) for value in (clips, scores)]
        text = f"{sizes[0]} relevant_clip_ids and {sizes[1]} saliency_scores, expected two lists of one length."
        yield Defect(SCORES, text)
        return
    count = clips_of(row["duration"], clip_length)
    for clip in clips:
        whole = isinstance(clip, int) and not isinstance(clip, bool)
        if not whole or not 0 <= clip < count:
            yield Defect(
                CLIP if whole else SCORES,
                f"relevant clip {clip!r} is outside the video; {row['duration']} s at {clip_length} s per clip are the "
                f"clips 0 to {count - 1}.",
            )
    if twice := sorted({clip for clip in clips if is_number(clip) and clips.count(clip) > 1}):
        yield Defect(SCORES, f"relevant clip {some(twice)} is listed twice.")
    for clip, given in zip(clips, scores, strict=True):
        if not isinstance(given, list) or not given or len(given) != len(scores[0]):
            text = f"expected one per rater, as many as the first clip has ({scores[0]!r})."
            yield Defect(SCORES, f"saliency scores of clip {clip} are {given!r}, {text}")
        elif not all(is_number(score) and 0 <= score <= TOP_SCORE for score in given):
            yield Defect(SCORES, f"saliency scores of clip {clip} are {given}, expected 0 to {TOP_SCORE}.")


def label_defects(row: Mapping[str, Any], lowest: float, highest: float) -> Iterator[Defect]:
    """The defects of a row's labels: a list of scores, one per rater, for every clip of the video."""
    labels = row["label"]
    if not isinstance(labels, list) or not labels:
        yield Defect(LABELS, f"label is {labels!r:.60}, expected for every clip a list of one score per rater.")
        return
    for clip, given in enumerate(labels):
        if not isinstance(given, list) or not given or len(given) != len(labels[0] if labels[0] else [0]):
            text = f"expected one score per rater, as many as the first clip has ({labels[0]!r:.40})."
            yield Defect(LABELS, f"label of clip {clip} is {given!r:.40}, {text}")
            return
        if not all(is_number(score) and lowest <= score <= highest for score in given):
            text = f"expected scores from {lowest:g} to {highest:g}."
            yield Defect(LABELS, f"label of clip {clip} is {given!r:.40}, {text}")
            return


def repaired(
    row: Mapping[str, Any], defects: Iterable[Defect], tolerance: Tolerance, clip_length: float
) -> dict | None:
    """The row with its windows cut at the ends of its video and without relevant clips outside it.

    None if there is a defect that cannot be cut away, or if no window is left: the query would match nothing.
    """
    if any(defect.kind not in CUTTABLE for defect in defects):
        return None
    kept = dict(row)
    if row.get("relevant_windows"):
        cut = [_cut(window, row, tolerance) for window in row["relevant_windows"]]
        kept["relevant_windows"] = [window for window in cut if window]
        if not kept["relevant_windows"]:
            return None
    if row.get("relevant_clip_ids"):
        count = clips_of(row["duration"], clip_length)
        pairs = zip(*(row[key] for key in SALIENCY), strict=True)
        pairs = [pair for pair in pairs if 0 <= pair[0] < count]
        kept |= {key: [pair[place] for pair in pairs] for place, key in enumerate(SALIENCY)}
    return kept


def _cut(window: list[float], row: Mapping[str, Any], tolerance: Tolerance) -> list[float] | None:
    """A window that is outside its video cut at the ends of it; None if nothing is left."""
    if not any(window_faults(*window, row["duration"], tolerance).values()):
        return window
    start, end = max(window[0], 0), min(window[1], row["duration"])
    return [start, end] if start < end else None
