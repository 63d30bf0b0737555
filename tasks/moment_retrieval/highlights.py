"""Highlights alone: average precision of saliency scores against a label per clip and rater, in percent.

    evaluate_labels(rows, truth, top=5, positive="median")     # {"brief": {"HD mAP": 87.1}}: TVSum's protocol
    evaluate_labels(rows, truth)                               # YouTube Highlights': all clips, labels above 0

A clip is a highlight for a rater whose label is above the median of the rater's labels (the lower one of two), or above
the lowest. Clips are ordered by their predicted score, the first of equals first. Of the best `top` the area under
precision over recall is taken by trapezia, beginning at a precision of 1, and recall is relative to the highlights
among those `top`: so did UMT (Liu et al., 2022), whose figures and those of its descendants are compared. It is 0 if
there is none among them. The metric is the mean over raters and videos.
Letters: C clips, A raters.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.moment_retrieval.submission import SubmissionError, matched

NAME = "HD mAP"


def evaluate_labels(
    submission: Sequence[Mapping],
    ground_truth: Sequence[Mapping],
    *,
    top: int | None = None,
    positive: str = "lowest",
    lowest: float = 0.0,
    decimals: int | None = 2,
) -> dict[str, dict[str, float]]:
    """{"brief": {"HD mAP": percent}}.

    submission: rows with qid and pred_saliency_scores, a number per clip; a list that ends early goes on with its
        lowest score, and what is longer than the labels is ignored. ground_truth: rows with qid and label, (C, A).
    top: best clips that count; None: all. positive: "median" or "lowest", above which a label makes a highlight.
    Raises SubmissionError: a missing key, a qid twice or in one of the two only, ragged lists, values that are not
        finite numbers.
    """
    predicted, true = matched(submission, ground_truth)
    found = []
    for i in range(len(true.rows)):
        labels = true.array(i, "label", (-1, None), "a score per rater")
        scores = predicted.array(i, "pred_saliency_scores", (-1,), "a number per clip")
        for table, values, key in ((true, labels, "label"), (predicted, scores, "pred_saliency_scores")):
            if not values.size:
                table.refuse_row(i, f"{key} is empty")
            if not np.isfinite(values).all():
                table.refuse_row(i, f"{key} has numbers that are not finite")
        scores = np.pad(scores, (0, max(0, len(labels) - len(scores))), constant_values=scores.min())[: len(labels)]
        found += rater_precisions(scores, highlights_of(labels, positive, lowest), top)
    if not found:
        raise SubmissionError(f"{true.name} has no queries")
    value = 100 * math.fsum(found) / len(found)
    return {"brief": {NAME: value if decimals is None else round(value, decimals)}}


def highlights_of(labels: np.ndarray, positive: str, lowest: float) -> np.ndarray:
    """labels (C, A) -> (C, A) bool: which clips are highlights for a rater."""
    if positive == "median":
        return labels > np.sort(labels, axis=0)[(len(labels) - 1) // 2]
    return labels > lowest


def rater_precisions(scores: np.ndarray, highlights: np.ndarray, top: int | None) -> list[float]:
    """scores (C,), highlights (C, A) bool -> the A average precisions in [0, 1]."""
    best = highlights[np.argsort(-scores, kind="stable")][:top]  # (K, A)
    hits = best.cumsum(0)
    total = hits[-1]
    recall = hits / np.maximum(total, 1)
    precision = hits / np.arange(1, len(best) + 1)[:, None]
    before_recall = np.vstack([np.zeros_like(recall[:1]), recall[:-1]])
    before_precision = np.vstack([np.ones_like(precision[:1]), precision[:-1]])
    area = ((recall - before_recall) * (precision + before_precision) / 2).sum(0)
    return np.where(total > 0, area, 0.0).tolist()


def label_rows(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a ground truth is one of highlights alone: labels, and no windows."""
    return bool(rows) and "label" in rows[0] and rows[0].get("relevant_windows") is None
