"""Metrics of moment retrieval and highlight detection: `evaluate` for lists, `MomentMetrics` for batches on all ranks.

    metric = MomentMetrics()
    metric.update(rows)                          # every batch, on every rank
    headline(metric.compute())                   # {"R1@0.5": 53.94, ..., "mAP": 32.2, "HIT@1": 55.55, ...}

What they compute is in tasks/moment_retrieval/scores.py.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torchmetrics import Metric

from tasks.common.gather import gather_rows
from tasks.moment_retrieval.highlights import evaluate_labels
from tasks.moment_retrieval.metric_settings import MetricSettings
from tasks.moment_retrieval.scores import LENGTHS, SHOWN, check_options, evaluate, headline
from tasks.moment_retrieval.usable import Policy

__all__ = ["MomentMetrics", "evaluate", "headline"]


def metrics_of(facts: Mapping[str, Any], settings: MetricSettings) -> "MomentMetrics":
    """Metrics of a data set of moments, or of highlights alone if its facts have "highlights" (LabelSettings).

    The data module has checked the truth before the run, by the same rules; what matches nothing is not scored.
    """
    options = {"clip_length": facts["clip_length"], "window_slack": math.inf, "unmatched": "skip"}
    options |= settings.options()
    if "highlights" not in facts:
        return MomentMetrics(**options)
    return LabelMetrics({name: facts["highlights"][name] for name in ("top", "positive", "lowest")}, **options)


class MomentMetrics(Metric):
    """`evaluate` over the batches of all ranks: each query once, the same figures on every rank as in a single process.

    Its keywords are those of `evaluate`, which makes no remarks here.

        metric.update([{"qid": 1, "vid": "a", "duration": 150, "relevant_windows": [[0, 10]],
                        "pred_relevant_windows": [[2.0, 10.0, 0.9]]}])
        headline(metric.compute())
    """

    full_state_update = False
    rows: list[tuple[Any, str]]  # a query and its row as JSON, which keeps every float: torchmetrics hashes states

    def __init__(
        self,
        *,
        clip_length: float = 2.0,
        max_windows: int = 10,
        lengths: Mapping[str, tuple[float, float | None]] = LENGTHS,
        thresholds: Sequence[float] = SHOWN,
        recall_at: Sequence[int] = (1,),
        miou: bool = False,
        by_length: Sequence[str] = ("mAP",),
        decimals: int | None = 2,
        window_slack: float | None = None,
        unmatched: str = "stop",
    ):
        super().__init__()
        check_options(clip_length, max_windows, lengths, decimals, thresholds, recall_at, by_length)
        Policy(clip_length, window_slack, unmatched=unmatched).check()
        self.options = {"clip_length": clip_length, "max_windows": max_windows, "decimals": decimals}
        self.options |= {"thresholds": tuple(thresholds), "recall_at": tuple(recall_at), "miou": miou}
        self.options |= {"by_length": tuple(by_length), "remark": None}
        self.options |= {"window_slack": window_slack, "unmatched": unmatched}
        self.options["lengths"] = {name: tuple(length) for name, length in lengths.items()}
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, rows: Sequence[Mapping]) -> None:
        """rows: a dict per query with its prediction and its truth; values may be lists, arrays or tensors."""
        texts = [json.dumps(row, default=lambda value: value.tolist()) for row in rows]
        self.rows += [(json.loads(text).get("qid"), text) for text in texts]

    def compute(self) -> dict[str, dict]:
        """The dict of `evaluate`. If a qid comes twice, its first row counts: samplers repeat rows on several ranks."""
        unique: dict[Any, str] = {}
        for qid, text in self.rows:
            unique.setdefault(qid, text)
        rows = [json.loads(text) for text in unique.values()]
        return self.scored(rows)

    def scored(self, rows: Sequence[Mapping]) -> dict[str, dict]:
        """The figures of rows that hold predictions and their truth."""
        return evaluate(rows, rows, **self.options)

    def _sync_dist(self, dist_sync_fn: Any = None, process_group: Any = None) -> None:
        rows = gather_rows([{"qid": qid, "text": text} for qid, text in self.rows], "qid")
        self.rows = [(row["qid"], row["text"]) for row in rows]

    def _apply(self, fn: Any, exclude_state: Sequence[str] = ()) -> "MomentMetrics":
        return super()._apply(fn, exclude_state=("rows", *exclude_state))  # text has no device


class LabelMetrics(MomentMetrics):
    """`evaluate_labels` over the batches of all ranks. labels: its top, positive and lowest."""

    def __init__(self, labels: Mapping[str, Any], **options: Any):
        super().__init__(**options)
        self.labels = dict(labels)

    def scored(self, rows: Sequence[Mapping]) -> dict[str, dict]:
        return evaluate_labels(rows, rows, decimals=self.options["decimals"], **self.labels)
