"""Annotations of moments and highlights: jsonl files, one query per line, read and checked, never changed.

    rows = read_moments("highlight_val_release.jsonl", clip_length=2.0, saliency=True)   # list of dict, as in the file

    {"qid": 2579, "query": "A girl and her mother cooked.", "duration": 150, "vid": "NUsG9BgSes0_210.0_360.0",
     "relevant_windows": [[82, 150]],                              # seconds
     "relevant_clip_ids": [41, ...], "saliency_scores": [[2, 3, 3], ...]}   # QVHighlights: 0..4, one score per rater

Charades-STA, TACoS and ActivityNet Captions in this form have only windows; TVSum and YouTube Highlights have none, and
a score per rater for every clip, "label". All defects of a file are one DataError with file, line, qid and vid of each,
or they are cut away or left out with the row, and counted (defects).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datamodules.defects import Defect, counted, listed
from datamodules.errors import DataError, some
from datamodules.formats.json_text import is_number, parse_json
from datamodules.formats.names import file_name
from datamodules.formats.text import read_lines
from datamodules.moment_retrieval.defects import (
    SALIENCY,
    SCORES,
    STRUCTURE,
    label_defects,
    repaired,
    saliency_defects,
    window_defects,
)
from datamodules.moment_retrieval.legal import Tolerance

MOMENT = ("qid", "query", "vid", "duration")


@dataclass
class Form:
    """What an annotation file holds, and what is done about its defects."""

    clip_length: float  # seconds
    saliency: bool = False  # the rows need relevant_clip_ids and saliency_scores
    rated: bool = False  # if one row has them, all need them: they are scored
    labels: tuple[float, float] | None = None  # the rows have a "label" and no windows: its lowest and highest score
    slack: float = 0.0  # seconds by which a window may end after its video
    defects: str = "stop"  # stop | clip | drop
    domain: str | None = None  # only the rows of this domain
    unlabelled: bool = False  # a file without windows in any row is accepted (a test set without its answers)


@dataclass
class Annotations:
    """The rows of a file, and what is wrong with it."""

    path: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    found: list[tuple[str, Defect]] = field(default_factory=list)  # where, what
    cut: int = 0  # rows that were changed
    left_out: int = 0  # rows that are not among `rows`

    def message(self) -> str:
        """Every defect, up to LISTED of them, and how many there are of which kind."""
        text = listed(self.path, self.found)
        if all(defect.kind != STRUCTURE for _, defect in self.found):
            text += (
                " data.defects=clip cuts windows and clips at the ends of their video and leaves out what cannot be "
                "cut; data.defects=drop leaves out these queries; `python -m scripts.check_data moments` lists all."
            )
        return text

    def remark(self, policy: str) -> str:
        """What was done about the defects, in words; empty if there were none."""
        if not self.found:
            return ""
        kinds = counted(defect for _, defect in self.found)
        return (
            f"{self.path}: {kinds}: {self.cut:,} queries were cut, {self.left_out:,} were left out, {len(self.rows):,} "
            f"are left (data.defects={policy})"
        )


def read_moments(
    path: str | Path,
    *,
    clip_length: float,
    saliency: bool,
    unlabelled: bool = False,
    slack: float = 0.0,
    defects: str = "stop",
) -> list[dict[str, Any]]:
    """The rows of an annotation file, in its order; the keywords are the fields of `Form`.

    Raises DataError: unreadable file or line, missing key, qid twice, empty query, an impossible duration or window, a
    clip outside the video, scores that do not fit their clips.
    """
    form = Form(clip_length, saliency, slack=slack, defects=defects, unlabelled=unlabelled)
    return read_annotations(path, form).rows


def read_annotations(path: str | Path, form: Form, *, stop: bool = True) -> Annotations:
    """The rows of an annotation file, in its order, and its defects.

    A malformed annotation (structure) always stops; other defects stop, are cut or leave out their row, as
    form.defects says. stop=False reports instead of stopping: the rows that have defects are then left out.
    Raises DataError with every defect of the file: as `read_moments`.
    """
    found = Annotations(Path(path))
    rows = list(_structure(found))
    if stop and found.found:
        raise DataError(found.message())
    if not rows and not found.found:
        raise DataError(f"{path}: no annotations in it.")
    if form.domain is not None:
        domains = sorted({str(row.get("domain")) for _, row in rows})
        rows = [(where, row) for where, row in rows if row.get("domain") == form.domain]
        if not rows:
            raise DataError(f"{path}: no annotations of data.domain={form.domain}; it has {some(domains, 20)}.")
    if form.unlabelled and not any(key in row for _, row in rows for key in ("relevant_windows", "label")):
        found.rows = [row for _, row in rows]
        return found
    if form.rated and any(row.get(key) is not None for _, row in rows for key in SALIENCY):
        form = replace(form, saliency=True)
    raters = _raters(rows) if form.saliency else {}
    checked = [(where, row, [*_content(row, form), *raters.get(where, [])]) for where, row in rows]
    found.found += [(where, defect) for where, _, defects in checked for defect in defects]
    if stop and found.found and form.defects == "stop":
        raise DataError(found.message())
    tolerance = Tolerance(after=form.slack)
    for _, row, defects in checked:
        kept = row
        if defects:
            clip = form.defects == "clip"
            kept = repaired(row, defects, tolerance, form.clip_length) if clip else None
            found.cut += kept is not None
            found.left_out += kept is None
        if kept is not None:
            found.rows.append(_without_null(kept))
    if stop and not found.rows:
        raise DataError(f"{found.message()}\n{path}: no annotation is left.")
    return found


def read_videos(path: str | Path) -> list[dict[str, Any]]:
    """The rows of an annotation file as far as they name a query, a video and its duration. DataError: none do."""
    found = Annotations(Path(path))
    rows = [row for _, row in _structure(found)]
    if not rows:
        raise DataError(found.message() if found.found else f"{path}: no annotations in it.")
    return rows


def check_asked(row: Mapping[str, Any], where: str) -> None:
    """DataError for a row of queries: its qid must be a whole number or a text, its query a text; either may lack."""
    qid, query = row.get("qid", 0), row.get("query", "")
    if not isinstance(qid, (int, str)) or isinstance(qid, bool):
        raise DataError(f"{where}: qid is {qid!r}, expected a whole number or a text.")
    if not isinstance(query, str):
        raise DataError(f"{where}: query is {query!r}, expected a sentence.")


def _structure(found: Annotations) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, row) of the lines that are annotations; the others become defects."""
    lines: dict[str, int] = {}
    for number, line in read_lines(found.path):
        where = f"{found.path}, line {number}"
        try:
            row = _parse(found.path, number, line)
            _check_moment(where, row)
            where += f" (qid {row['qid']}, vid {row['vid']})"
            if (first := lines.setdefault(str(row["qid"]), number)) != number:
                raise DataError(f"{where}: this qid is on line {first} too; a qid names one query.")
        except DataError as error:
            found.found.append(("", Defect(STRUCTURE, str(error))))
        else:
            yield where, row


def _content(row: Mapping[str, Any], form: Form) -> Iterator[Defect]:
    """The defects of what a row says of its video."""
    if form.labels is not None:
        keys, why = ("label",), ", which data.saliency=labels needs"
    else:
        keys, why = ("relevant_windows",), ""
    yield from (missing := list(_missing(row, keys, why)))
    if not missing:
        tolerance = Tolerance(after=form.slack)
        yield from label_defects(row, *form.labels) if form.labels else window_defects(row, tolerance)
    if form.saliency:
        missing = list(_missing(row, SALIENCY, ", which data.saliency=annotated needs (windows and none do without)"))
        yield from missing or saliency_defects(row, form.clip_length)


def _raters(rows: list[tuple[str, dict[str, Any]]]) -> dict[str, list[Defect]]:
    """Defects of rows whose clips have other numbers of raters than those of the first row: a submission could not be
    scored."""
    counts = {}
    for where, row in rows:
        scores = row.get("saliency_scores")
        if isinstance(scores, list) and scores and isinstance(scores[0], list) and scores[0]:
            counts[where] = len(scores[0])
    first = next(iter(counts.values()), 0)
    return {
        where: [Defect(SCORES, f"saliency scores of {count} raters, but the first query's have {first}.")]
        for where, count in counts.items()
        if count != first
    }


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


def _missing(row: Mapping[str, Any], keys: tuple[str, ...], why: str = "") -> Iterator[Defect]:
    if missing := [key for key in keys if key not in row]:
        yield Defect(STRUCTURE, f"no key {some(missing)}{why}; it has {some(row, 12)}.")


def _without_null(row: dict[str, Any]) -> dict[str, Any]:
    """The row without keys whose null says that the data set does not have such a thing."""
    keys = [key for key in ("relevant_windows", *SALIENCY) if key in row and row[key] is None]
    return {key: value for key, value in row.items() if key not in keys} if keys else row


def _check_moment(where: str, row: Mapping[str, Any]) -> None:
    """Checks what every row has: a number, a query in words, a video and its length."""
    known = ", ".join(f"{key} {row[key]}" for key in ("qid", "vid") if key in row)
    where += f" ({known})" if known else ""
    for defect in _missing(row, MOMENT):
        raise DataError(f"{where}: {defect.text}")
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
