"""Moment retrieval and highlight detection, scored as the QVHighlights benchmark does, in percent.

    metrics = evaluate(read_jsonl("submission.jsonl"), read_jsonl("highlight_val_release.jsonl"))
    metrics["brief"]["MR-full-mAP"], metrics["full"]["MR-R1"]["0.5"], metrics["HL-min-VeryGood"]["HL-Hit1"]
    headline(metrics)                            # {"R1@0.5": 53.94, ..., "mAP": 32.2, "HIT@1": 55.55, ...}

Moment retrieval (MR), at each IoU threshold 0.5, 0.55, ..., 0.95, for all true windows and for those of a length range:
R1 - the share of queries whose first listed window reaches the threshold with a true window; mAP - the mean over
queries of the interpolated average precision of the `max_windows` first listed windows, ordered by score.
Highlight detection (HD, HL in the keys); a rating of 2 (Fair), 3 (Good) or 4 (VeryGood) makes a clip positive:
mAP - the mean over queries and annotators; Hit1 - the share of queries whose best clip is positive for any annotator.
Every figure of the benchmark's own evaluation (Lei et al., QVHighlights, 2021) comes out equal.
NumPy alone: nothing here imports torch.
Letters: Q queries, P predicted windows, G true windows, T thresholds, C clips, A annotators.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tasks.moment_retrieval.submission import Pairs, Saliency, pair
from tasks.moment_retrieval.usable import Policy, usable

THRESHOLDS = np.array([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
LENGTHS = {"short": (0, 10), "middle": (10, 30), "long": (30, 150)}  # seconds; the first is outside, the second inside
RATINGS = {"Fair": 2, "Good": 3, "VeryGood": 4}

HEADLINE = {
    "R1@0.5": "MR-full-R1@0.5",
    "R1@0.7": "MR-full-R1@0.7",
    "mAP@0.5": "MR-full-mAP@0.5",
    "mAP@0.75": "MR-full-mAP@0.75",
    "mAP": "MR-full-mAP",
    "HIT@1": "HL-min-VeryGood-Hit1",
    "HD mAP": "HL-min-VeryGood-mAP",
    "mAP short": "MR-short-mAP",
    "mAP middle": "MR-middle-mAP",
    "mAP long": "MR-long-mAP",
}


def evaluate(
    submission: Sequence[Mapping],
    ground_truth: Sequence[Mapping],
    *,
    clip_length: float = 2.0,
    max_windows: int = 10,
    lengths: Mapping[str, tuple[float, float]] = LENGTHS,
    decimals: int | None = 2,
    window_slack: float | None = None,
    defects: str = "stop",
    unmatched: str = "stop",
    missing: str = "stop",
) -> dict[str, dict]:
    """The benchmark's metrics in its structure: "brief", then "HL-min-Fair", ..., "full", "long", "middle", "short".

    submission, ground_truth: rows as in tasks/moment_retrieval/submission.py, in any order, each query once in both.
    clip_length: seconds that a saliency score is for.
    max_windows: how many of the windows that a submission lists count towards mAP.
    lengths:     ranges of true window lengths in seconds, (above, up to). A query counts in the ranges that hold one
                 of its windows; a range without any is left out. "full", all windows, is always there.
    decimals:    as the benchmark rounds; None leaves the figures as they are.
    window_slack, defects, unmatched, missing: what is done about a ground truth that cannot be scored as it is
                 (tasks/moment_retrieval/usable.py). What is cut or left out is counted under "left_out".
    Ground truth or a submission without saliency: no HL keys, and for the submission a warning.
    A query with an empty window list scores 0 (the original's R1 stops there, its mAP would leave the query out), and
    so does any pair of windows whose union is empty (the original divides 0 by 0, which counts as a hit).
    Raises SubmissionError, a ValueError, as `pair` lists; ValueError for options out of their range.
    """
    check_options(clip_length, max_windows, lengths, decimals)
    policy = Policy(clip_length, window_slack, defects, unmatched, missing)
    policy.check()
    submission, ground_truth, left_out = usable(submission, ground_truth, policy)
    pairs = pair(submission, ground_truth, clip_length, max_windows, policy.tolerance)
    metrics = moment_retrieval(pairs, lengths)
    if pairs.saliency is not None:
        metrics |= highlight_detection(pairs.saliency)
    metrics = _percent(metrics, decimals)
    found = {"brief": _brief(metrics)} | dict(sorted(metrics.items()))
    return found | ({"left_out": left_out} if left_out else {})


def headline(metrics: Mapping[str, Mapping]) -> dict[str, float]:
    """The figures that papers report, by short names; those that `metrics`, from `evaluate`, has."""
    brief = metrics["brief"]
    return {name: brief.get(name, brief.get(key)) for name, key in HEADLINE.items() if {name, key} & brief.keys()}


def moment_retrieval(pairs: Pairs, lengths: Mapping[str, tuple[float, float]]) -> dict[str, dict]:
    """MR-mAP and MR-R1 as shares in [0, 1], by length range and threshold."""
    metrics = {}
    length = pairs.truth[..., 1] - pairs.truth[..., 0]  # (Q, G)
    overlap = iou(pairs.windows, pairs.truth)  # (Q, P, G)
    first = iou(pairs.first[:, None], pairs.truth)[:, 0]  # (Q, G)
    for name, (above, up_to) in {**lengths, "full": (-math.inf, math.inf)}.items():
        counts = pairs.is_truth & (length > above) & (length <= up_to)  # (Q, G)
        queries = counts.any(1)
        if not queries.any():
            continue
        counts = counts[queries]
        precision = _means(average_precision(overlap[queries], counts))
        best = np.where(counts, first[queries], -1).argmax(1)  # (Q,)
        reached = hull_iou(pairs.first[queries], pairs.truth[queries, best])[:, None] >= THRESHOLDS  # (Q, T)
        recall = _means(reached)
        by_threshold = {str(t): value for t, value in zip(THRESHOLDS.tolist(), precision, strict=True)}
        metrics[name] = {
            "MR-mAP": by_threshold | {"average": math.fsum(precision) / len(precision)},
            "MR-R1": dict(zip(by_threshold, recall, strict=True)),
        }
    return metrics


def iou(windows: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union of windows (Q, P, 2) with windows (Q, G, 2): (Q, P, G); 0 where the union is empty."""
    start, end = windows[:, :, None, 0], windows[:, :, None, 1]
    true_start, true_end = truth[:, None, :, 0], truth[:, None, :, 1]
    common = np.clip(np.minimum(end, true_end) - np.maximum(start, true_start), 0, None)
    union = (end - start) + (true_end - true_start) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union != 0)


def hull_iou(window: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU of windows (Q, 2) with one true window each, divided by the hull: the original rounds R1 in this way."""
    common = np.clip(np.minimum(window[:, 1], truth[:, 1]) - np.maximum(window[:, 0], truth[:, 0]), 0, None)
    hull = np.maximum(window[:, 1], truth[:, 1]) - np.minimum(window[:, 0], truth[:, 0])
    return np.divide(common, hull, out=np.zeros_like(common), where=hull != 0)


def average_precision(overlap: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Interpolated average precision (Q, T) of windows in falling order of score.

    overlap: (Q, P, G) IoU. counts: (Q, G) bool, the true windows that are to be found, at least one in every row.
    A window is a hit if a true one that it reaches is still free. It takes the one with the highest IoU; among equals
    the last.
    """
    free = np.repeat(counts[:, None], len(THRESHOLDS), axis=1)  # (Q, T, G)
    hits = np.zeros((*free.shape[:2], overlap.shape[1]), dtype=bool)  # (Q, T, P)
    for p in range(overlap.shape[1]):
        reached = overlap[:, p, None, :] * (free & (overlap[:, p, None, :] >= THRESHOLDS[:, None]))  # (Q, T, G)
        taken = free.shape[2] - 1 - reached[..., ::-1].argmax(-1)  # (Q, T)
        hits[..., p] = np.take_along_axis(reached, taken[..., None], -1)[..., 0] > 0
        query, threshold = np.nonzero(hits[..., p])
        free[query, threshold, taken[query, threshold]] = False
    precision = hits.cumsum(-1) / np.arange(1, overlap.shape[1] + 1)  # (Q, T, P)
    return (_best_from_here(precision, axis=-1) * hits).sum(-1) / counts.sum(1)[:, None]


def highlight_detection(saliency: Saliency) -> dict[str, dict]:
    """HL-mAP and HL-Hit1 as shares in [0, 1], by the rating from which a clip is positive."""
    metrics = {}
    inside = saliency.top < saliency.is_clip.sum(1)
    top = np.where(inside, saliency.top, 0)
    for name, least in RATINGS.items():
        positive = (saliency.levels >= least) & saliency.is_clip[..., None]  # (Q, C, A)
        hit = positive[np.arange(len(top)), top].any(1) & inside  # (Q,)
        precision = ranking_precision(saliency.scores, saliency.is_clip, positive)
        metrics[f"HL-min-{name}"] = {"HL-mAP": _means(precision.reshape(-1, 1))[0], "HL-Hit1": _means(hit[:, None])[0]}
    return metrics


def ranking_precision(scores: np.ndarray, is_clip: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Average precision (Q, A) of clips ranked by score (Q, C) against positive (Q, C, A) bool.

    It is the mean of the interpolated precision over the distinct recalls above 0, without weights; clips with equal
    scores enter together, so that some recalls may never occur. It is 0 if nothing is positive.
    """
    key = np.where(is_clip, -scores, np.inf)
    order = np.argsort(key, axis=1, kind="stable")
    key, is_clip = np.take_along_axis(key, order, 1), np.take_along_axis(is_clip, order, 1)
    found = np.take_along_axis(positive, order[..., None], 1).cumsum(1)  # (Q, C, A)
    last_of_equals = is_clip.copy()
    last_of_equals[:, :-1] &= key[:, :-1] != key[:, 1:]  # (Q, C)
    stops = np.where(last_of_equals[..., None], found, 0)  # (Q, C, A)
    precision = _best_from_here(stops / np.arange(1, scores.shape[1] + 1)[:, None], axis=1)
    before = np.zeros_like(stops)
    before[:, 1:] = np.maximum.accumulate(stops, axis=1)[:, :-1]
    risen = stops > before
    return (precision * risen).sum(1) / np.maximum(risen.sum(1), 1)


def _best_from_here(values: np.ndarray, axis: int) -> np.ndarray:
    return np.flip(np.maximum.accumulate(np.flip(values, axis), axis), axis)


def _means(values: np.ndarray) -> list[float]:
    """Means over queries (Q, K) without rounding error, so that the order of the ranks' queries has no effect."""
    return [math.fsum(column) / len(column) for column in values.T.tolist()]


def _percent(metrics: Any, decimals: int | None) -> Any:
    if isinstance(metrics, dict):
        return {name: _percent(value, decimals) for name, value in metrics.items()}
    return 100 * metrics if decimals is None else round(100 * metrics, decimals)


def _brief(metrics: Mapping[str, Mapping]) -> dict[str, float]:
    moments = {}
    for name in (name for name in metrics if "MR-mAP" in metrics[name]):
        precision, recall = metrics[name]["MR-mAP"], metrics[name]["MR-R1"]
        moments[f"MR-{name}-mAP"] = precision["average"]
        if name == "full":
            moments |= {f"MR-full-mAP@{t}": precision[t] for t in ("0.5", "0.75")}
            moments |= {f"MR-full-R1@{t}": recall[t] for t in ("0.5", "0.7")}
    highlights = [f"HL-min-{name}" for name in RATINGS if f"HL-min-{name}" in metrics]
    ratings = {f"{name}-{kind}": metrics[name][f"HL-{kind}"] for name in highlights for kind in ("mAP", "Hit1")}
    return dict(sorted(moments.items())) | ratings


def check_options(clip_length: float, max_windows: int, lengths: Mapping, decimals: int | None) -> None:
    """Raises ValueError for options of `evaluate` out of their range."""
    if not 0 < clip_length < math.inf:
        raise ValueError(f"clip_length must be seconds above 0, got {clip_length!r}")
    if isinstance(max_windows, bool) or not isinstance(max_windows, int) or max_windows < 1:
        raise ValueError(f"max_windows must be an integer from 1, got {max_windows!r}")
    if not (decimals is None or (isinstance(decimals, int) and decimals >= 0)):
        raise ValueError(f"decimals must be None or an integer from 0, got {decimals!r}")
    for name, (above, up_to) in lengths.items():
        if not above < up_to:
            raise ValueError(f"lengths[{name!r}] must be (above, up to) with above < up to, got {(above, up_to)!r}")
        if name in ("full", "brief") or name.startswith("HL-min-"):
            raise ValueError(f"lengths cannot have {name!r}: the metrics have a part of that name")
