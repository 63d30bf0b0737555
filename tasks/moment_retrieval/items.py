"""Scores of single queries of a test, for intervals over other queries (scripts/table/items.py)."""

import math
from collections.abc import Mapping, Sequence

from datamodules.moment_retrieval.defects import SALIENCY
from datamodules.moment_retrieval.legal import Tolerance
from tasks.moment_retrieval.scores import average_precision, iou
from tasks.moment_retrieval.submission import pair


def item_scores(rows: Sequence[Mapping]) -> dict[str, dict[str, float]]:
    """In percent, by metric and row: whose mean is the run's metric of that name. Empty without true windows.

    The mean over thresholds of a query's average precision; the benchmark's mAP is its mean over queries.
    """
    if not rows or "relevant_windows" not in rows[0]:
        return {}
    moments = [{key: value for key, value in row.items() if key not in SALIENCY} for row in rows]
    rows = moments = [row for row in moments if row["relevant_windows"]]  # the metric leaves out what matches nothing
    if not rows:
        return {}
    anywhere = Tolerance(math.inf, math.inf, empty=True)  # the data were checked before the run
    pairs = pair(moments, moments, clip_length=1.0, max_windows=10, tolerance=anywhere)
    precision = average_precision(iou(pairs.windows, pairs.truth), pairs.is_truth).mean(1)
    return {"mAP": {str(row["qid"]): 100.0 * value for row, value in zip(rows, precision.tolist(), strict=True)}}
