"""The annotation files of a data set's splits, read by one set of rules and checked against each other.

    rows = read_splits(folder, {"train": "train.jsonl", "val": "val.jsonl", "test": "test.jsonl"}, form)

What the evaluator would refuse in the ground truth is refused here, before a run begins.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.errors import DataError, some
from datamodules.moment_retrieval.annotations import Annotations, Form, check_splits, read_annotations

log = logging.getLogger(__name__)

EVALUATED = ("val", "test")
Rows = dict[str, list[dict[str, Any]]]
Counted = dict[str, dict[str, int]]  # split -> reason -> how many


def form_of(form: Form, split: str, saliency: str) -> Form:
    """What the file of a split must hold. saliency: data.saliency."""
    rated = saliency == "windows" and split in EVALUATED  # then HD is scored, though it is not trained on
    return replace(form, unlabelled=split == "test", rated=rated)


def read_splits(
    folder: Path, files: Mapping[str, str], form: Form, *, saliency: str, unmatched: str, left_out: Counted
) -> Rows:
    """Split -> the rows of its file. Raises DataError with the defects of all files, and as `check_splits`.

    unmatched: "skip" says how many queries of an evaluation split match nothing; "stop" refuses them. left_out: gets
    how many queries of a split were changed or are not scored, by reason.
    """
    found: dict[str, Annotations] = {}
    problems = []
    for split, name in files.items():
        try:
            found[split] = read_annotations(folder / name, form_of(form, split, saliency))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(dict.fromkeys(problems)))  # one file may be two splits
    for remark in dict.fromkeys(one.remark(form.defects) for one in found.values()):
        if remark:
            log.warning("%s", remark)
    rows = {split: one.rows for split, one in found.items()}
    for split, one in found.items():
        left_out[split] = {"query with a defect": one.left_out, "query whose windows were cut": one.cut}
    if rows["train"] and all(row.get("relevant_windows") == [] for row in rows["train"]):
        raise DataError(f"{folder / files['train']}: no query has a window, so nothing can be learned.")
    for split in dict.fromkeys(EVALUATED):
        alone = _check_matched(folder / files[split], rows[split], unmatched)
        left_out[split]["query that matches nothing, which is not scored"] = alone
    check_splits(rows, files)
    return rows


def _check_matched(path: Path, rows: list[dict[str, Any]], unmatched: str) -> int:
    """How many queries match nothing. They cannot be scored: no recall and no precision is defined for them."""
    alone = [row for row in rows if row.get("relevant_windows") == []]
    if not alone:
        return 0
    said = f"{path}: {len(alone):,} of {len(rows):,} queries match nothing (qid {some(row['qid'] for row in alone)})"
    if len(alone) == len(rows):
        raise DataError(f"{said}, so nothing can be scored.")
    if unmatched == "stop":
        raise DataError(f"{said}; data.unmatched=skip leaves them out of the scores.")
    log.warning("%s: they are left out of the scores (data.unmatched=skip)", said)
    return len(alone)
