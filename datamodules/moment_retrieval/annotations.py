"""Annotations of moments and highlights: jsonl files, one query per line, read and checked, never changed.

    rows = read_moments("highlight_val_release.jsonl", clip_length=2.0, saliency=True)   # list of dict, as in the file

    {"qid": 2579, "query": "A girl and her mother cooked.", "duration": 150, "vid": "NUsG9BgSes0_210.0_360.0",
     "relevant_windows": [[82, 150]],                              # seconds
     "relevant_clip_ids": [41, ...], "saliency_scores": [[2, 3, 3], ...]}   # QVHighlights: 0..4, one score per rater

Charades-STA, TACoS and ActivityNet Captions in this form have only windows. Every defect is a DataError with file,
line, qid and vid.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.errors import DataError, some
from datamodules.formats.json_text import is_number, parse_json
from datamodules.formats.names import file_name
from datamodules.formats.text import read_lines

MOMENT = ("qid", "query", "vid", "duration")
SALIENCY = ("relevant_clip_ids", "saliency_scores")
TOP_SCORE = 4  # "Very Good"; a rater gives 0..4


def read_moments(
    path: str | Path, *, clip_length: float, saliency: bool, unlabelled: bool = False, slack: float = 0.0
) -> list[dict[str, Any]]:
    """The rows of an annotation file, in its order.

    saliency: the rows need scores of clips of `clip_length` seconds; unlabelled: a file without windows in any row is
    accepted (a test set without its answers); slack: seconds by which a window may end after the video.

    Raises DataError: unreadable file or line, missing key, qid twice, empty query, an impossible duration or window, a
    clip outside the video, scores that do not fit their clips.
    """
    path = Path(path)
    rows, lines = [], {}
    for number, line in read_lines(path):
        row = _parse(path, number, line)
        where = f"{path}, line {number}"
        _check_moment(where, row)
        where += f" (qid {row['qid']}, vid {row['vid']})"
        if (first := lines.setdefault(str(row["qid"]), number)) != number:
            raise DataError(f"{where}: this qid is on line {first} too; a qid names one query.")
        rows.append((where, row))
    if not rows:
        raise DataError(f"{path}: no annotations in it.")
    if unlabelled and not any("relevant_windows" in row for _, row in rows):
        return [row for _, row in rows]
    for where, row in rows:
        _check_windows(where, row, slack)
        if saliency:
            _check_saliency(where, row, clip_length)
    return [row for _, row in rows]


def check_splits(rows: Mapping[str, list[dict[str, Any]]], files: Mapping[str, str]) -> None:
    """DataError if a training video is in an evaluation split too, or one qid belongs to different queries.

    Two evaluation splits may share videos, or be one file (Charades-STA has no validation split).
    """
    videos = {row["vid"] for row in rows["train"]}
    for split in ("val", "test"):
        if both := sorted(videos & {row["vid"] for row in rows[split]}):
            raise DataError(
                f"{len(both)} videos are in {files['train']} and in {files[split]}: vid {some(both)}. "
                "A video that is trained on cannot be evaluated on."
            )
    queries: dict[str, tuple[str, str]] = {}
    for split, name in files.items():
        for row in rows[split]:
            other, query = queries.setdefault(str(row["qid"]), (name, row["query"]))
            if query != row["query"]:
                raise DataError(
                    f"qid {row['qid']} is {query!r} in {other} and {row['query']!r} in {name}; the features of a query "
                    "are found by its qid."
                )


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    row = parse_json(line, f"{path}, line {number}: not JSON: {line[:60]!r}")
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {number}: expected an object, found {line[:60]!r}.")
    return row


def _need(where: str, row: Mapping[str, Any], keys: tuple[str, ...], why: str = "") -> None:
    if missing := [key for key in keys if key not in row]:
        raise DataError(f"{where}: no key {some(missing)}{why}; it has {some(row, 12)}.")


def _check_moment(where: str, row: Mapping[str, Any]) -> None:
    """Checks what every row has: a number, a query in words, a video and its length."""
    known = ", ".join(f"{key} {row[key]}" for key in ("qid", "vid") if key in row)
    where += f" ({known})" if known else ""
    _need(where, row, MOMENT)
    if isinstance(row["qid"], bool) or not isinstance(row["qid"], (int, str)) or row["qid"] == "":
        raise DataError(f"{where}: qid is {row['qid']!r}, expected a whole number or a name.")
    file_name(row["qid"], f"{where}: qid")
    if not isinstance(row["vid"], str) or not row["vid"]:
        raise DataError(f"{where}: vid is {row['vid']!r}, expected the name of a video (its feature files' name).")
    file_name(row["vid"], f"{where}: vid")
    if not isinstance(row["query"], str) or not row["query"].strip():
        raise DataError(f"{where}: query is {row['query']!r}, expected a sentence.")
    if not is_number(row["duration"]) or row["duration"] <= 0:
        raise DataError(f"{where}: duration is {row['duration']!r}, expected seconds, more than 0.")


def _check_windows(where: str, row: Mapping[str, Any], slack: float) -> None:
    _need(where, row, ("relevant_windows",))
    windows, duration = row["relevant_windows"], row["duration"]
    if not isinstance(windows, list):
        raise DataError(f"{where}: relevant_windows is {windows!r}, expected a list of [start, end].")
    for window in windows:
        if not isinstance(window, list) or len(window) != 2 or not all(map(is_number, window)):
            raise DataError(f"{where}: window {window!r}, expected [start, end] in seconds.")
        start, end = window
        if end <= start:
            what = "has no length" if end == start else "ends before it starts"
            raise DataError(f"{where}: window {window} {what}; expected start < end, in seconds.")
        if start < 0 or start >= duration or end > duration + slack:
            raise DataError(
                f"{where}: window {window} is outside the video, which has {duration} s. A window may end {slack} s "
                "after its video (data.window_slack)."
            )


def _check_saliency(where: str, row: Mapping[str, Any], clip_length: float) -> None:
    _need(where, row, SALIENCY, ", which data.saliency=annotated needs (windows and none do without)")
    clips, scores = (row[key] for key in SALIENCY)
    count = math.ceil(row["duration"] / clip_length)
    if not isinstance(clips, list) or not isinstance(scores, list) or len(clips) != len(scores):
        sizes = [len(value) if isinstance(value, list) else repr(value) for value in (clips, scores)]
        raise DataError(
            f"{where}: {sizes[0]} relevant_clip_ids and {sizes[1]} saliency_scores, expected two lists of one length."
        )
    for clip in clips:
        if isinstance(clip, bool) or not isinstance(clip, int) or not 0 <= clip < count:
            raise DataError(
                f"{where}: relevant clip {clip!r} is outside the video; {row['duration']} s at {clip_length} s per "
                f"clip are the clips 0 to {count - 1}."
            )
    if len(set(clips)) < len(clips):
        twice = sorted({clip for clip in clips if clips.count(clip) > 1})
        raise DataError(f"{where}: relevant clip {some(twice)} is listed twice.")
    for clip, given in zip(clips, scores, strict=True):
        if not isinstance(given, list) or not given or len(given) != len(scores[0]):
            raise DataError(
                f"{where}: saliency scores of clip {clip} are {given!r}, expected one per rater, as many as the "
                f"first clip has ({scores[0]!r})."
            )
        if not all(is_number(score) and 0 <= score <= TOP_SCORE for score in given):
            raise DataError(f"{where}: saliency scores of clip {clip} are {given}, expected 0 to {TOP_SCORE}.")
