"""Moment retrieval and highlight detection, scored as the QVHighlights benchmark does, in percent.

    metrics = evaluate(read_jsonl("submission.jsonl"), read_jsonl("highlight_val_release.jsonl"))
    metrics["brief"]["MR-full-mAP"], metrics["full"]["MR-R1"]["0.5"], metrics["HL-min-VeryGood"]["HL-Hit1"]
    headline(metrics)                            # {"R1@0.5": 53.94, ..., "mAP": 32.2, "HIT@1": 55.55, ...}

Moment retrieval (MR), at each IoU threshold 0.5, 0.55, ..., 0.95, for all true windows and for those of a length range:
R1 - the share of queries whose first listed window reaches the threshold with a true window; mAP - the mean over
queries of the interpolated average precision of the `max_windows` first listed windows, ordered by score. If they are
asked for: R1 at other thresholds, R5 - one of the first five listed windows reaches it (none is suppressed before), and
mIoU - the mean over queries of the first listed window's IoU with the nearest true window.
Highlight detection (HD, HL in the keys); a rating of 2 (Fair), 3 (Good) or 4 (VeryGood) makes a clip positive:
mAP - the mean over queries and annotators; Hit1 - the share of queries whose best clip is positive for any annotator.
Every figure of the benchmark's own evaluation (Lei et al., QVHighlights, 2021) comes out equal.
NumPy alone: nothing here imports torch.
Letters: Q queries, P predicted windows, G true windows, T thresholds, C clips, A annotators.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tasks.moment_retrieval.remarks import remarks
from tasks.moment_retrieval.submission import Pairs, Saliency, pair
from tasks.moment_retrieval.usable import Policy, usable

log = logging.getLogger(__name__)

THRESHOLDS = np.array([0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
WIDE_THRESHOLDS = [0.3, 0.35, 0.4, 0.45]  # further ones of R1, if one below the ten is asked for
SHOWN = (0.5, 0.7)  # thresholds of R1 in "brief"
# seconds; the first is outside, the second inside. The benchmark's long ones end at 150 s, as its videos do
LENGTHS = {"short": (0, 10), "middle": (10, 30), "long": (30, None)}
FEW = 2  # true windows of a query
BY_LENGTH = ("mAP", "R", "mIoU")  # what "brief" may have of every length range
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
    lengths: Mapping[str, tuple[float, float | None]] = LENGTHS,
    thresholds: Sequence[float] = SHOWN,
    recall_at: Sequence[int] = (1,),
    miou: bool = False,
    by_length: Sequence[str] = ("mAP",),
    decimals: int | None = 2,
    window_slack: float | None = None,
    defects: str = "stop",
    unmatched: str = "stop",
    missing: str = "stop",
    remark: Callable[[str], None] | None = log.warning,
) -> dict[str, dict]:
    """The benchmark's metrics in its structure: "brief", then "HL-min-Fair", ..., "full", "long", "middle", "short".

    submission, ground_truth: rows as in tasks/moment_retrieval/submission.py, in any order, each query once in both.
    clip_length: seconds that a saliency score is for.
    max_windows: how many of the windows that a submission lists count towards mAP.
    lengths:     ranges of true window lengths in seconds, (above, up to); None: no end. A query counts in the ranges
                 that hold one of its windows; a range without any is left out. "full", all windows, is always there.
    thresholds:  IoU in (0, 1] from which R1 counts a window as found, in "brief". The ranges have R1 at the benchmark's
                 ten and at these; with one below 0.5 from 0.3 on in steps of 0.05, as CG-DETR's files.
    recall_at:   how many listed windows may reach the threshold: 1 is R1, 5 is R5 ("MR-R5").
    miou:        "MR-mIoU" as well.
    by_length:   which of mAP, R and mIoU "brief" has of every length range, not of all windows alone.
    decimals:    as the benchmark rounds; None leaves the figures as they are.
    window_slack, defects, unmatched, missing: what is done about a ground truth that cannot be scored as it is
                 (tasks/moment_retrieval/usable.py). What is cut or left out is counted under "left_out".
    remark:      gets a line for each likely mistake in the files (tasks/moment_retrieval/remarks.py); None: no search.
    Ground truth or a submission without saliency: no HL keys, and for the submission a warning.
    A query with an empty window list scores 0 (the original's R1 stops there, its mAP would leave the query out), and
    so does any pair of windows whose union is empty (the original divides 0 by 0, which counts as a hit).
    Raises SubmissionError, a ValueError, as `pair` lists; ValueError for options out of their range.
    """
    check_options(clip_length, max_windows, lengths, decimals, thresholds, recall_at, by_length)
    policy = Policy(clip_length, window_slack, defects, unmatched, missing)
    policy.check()
    submission, ground_truth, left_out = usable(submission, ground_truth, policy)
    pairs = pair(submission, ground_truth, clip_length, max_windows, policy.tolerance)
    if remark is not None:
        for line in remarks(pairs, clip_length, lengths):
            remark(line)
    metrics = moment_retrieval(pairs, lengths, thresholds, recall_at, miou)
    if pairs.saliency is not None:
        metrics |= highlight_detection(pairs.saliency)
    metrics = _percent(metrics, decimals)
    found = {"brief": _brief(metrics, thresholds, recall_at, by_length)} | dict(sorted(metrics.items()))
    return found | ({"left_out": left_out} if left_out else {})


def headline(metrics: Mapping[str, Mapping], names: Mapping[str, str] = HEADLINE) -> dict[str, float]:
    """The figures that papers report, by short names; those that `metrics`, from `evaluate`, has.

    names: short name -> key of "brief" (MetricSettings.figures).
    """
    brief = metrics["brief"]
    return {name: brief.get(name, brief.get(key)) for name, key in names.items() if {name, key} & brief.keys()}


def moment_retrieval(
    pairs: Pairs,
    lengths: Mapping[str, tuple[float, float | None]],
    thresholds: Sequence[float] = SHOWN,
    recall_at: Sequence[int] = (1,),
    miou: bool = False,
) -> dict[str, dict]:
    """MR-mAP, MR-R1 and what else is asked for as shares in [0, 1], by length range and threshold."""
    metrics = {}
    levels = np.array(recall_thresholds(thresholds))
    length = pairs.truth[..., 1] - pairs.truth[..., 0]  # (Q, G)
    overlap = iou(pairs.windows, pairs.truth)  # (Q, P, G)
    listed = pairs.listed[:, : max(recall_at)]  # (Q, K, 2)
    near = iou(listed, pairs.truth)  # (Q, K, G)
    for name, (above, up_to) in {**lengths, "full": (-math.inf, None)}.items():
        counts = pairs.is_truth & (length > above) & (length <= (math.inf if up_to is None else up_to))  # (Q, G)
        queries = counts.any(1)
        if not queries.any():
            continue
        counts = counts[queries]
        precision = _means(average_precision(overlap[queries], counts))
        best = np.where(counts[:, None], near[queries], -1).argmax(-1)  # (Q, K)
        nearest = np.take_along_axis(pairs.truth[queries], best[..., None], 1)  # (Q, K, 2)
        reached = hull_iou(listed[queries], nearest)  # (Q, K)
        by_threshold = dict(zip(map(str, THRESHOLDS.tolist()), precision, strict=True))
        found = {"MR-mIoU": _means(reached[:, :1])[0]} if miou else {}
        found["MR-mAP"] = by_threshold | {"average": math.fsum(precision) / len(precision)}
        for most in recall_at:
            recall = _means(reached[:, :most].max(1)[:, None] >= levels)  # (Q, T) -> T
            found[f"MR-R{most}"] = dict(zip(map(str, levels.tolist()), recall, strict=True))
        metrics[name] = found
    return metrics


def recall_thresholds(asked: Sequence[float]) -> list[float]:
    """The IoU thresholds at which the length ranges have R1, rising; `asked`: those of "brief"."""
    wide = WIDE_THRESHOLDS if min(asked) < THRESHOLDS[0] else []
    return sorted({*wide, *THRESHOLDS.tolist(), *map(float, asked)})


def iou(windows: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union of windows (Q, P, 2) with windows (Q, G, 2): (Q, P, G); 0 where the union is empty."""
    start, end = windows[:, :, None, 0], windows[:, :, None, 1]
    true_start, true_end = truth[:, None, :, 0], truth[:, None, :, 1]
    common = np.clip(np.minimum(end, true_end) - np.maximum(start, true_start), 0, None)
    union = (end - start) + (true_end - true_start) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union != 0)


def hull_iou(window: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU (Q, K) of windows (Q, K, 2) with one true window each, divided by the hull: the original's R1 rounds so."""
    common = np.minimum(window[..., 1], truth[..., 1]) - np.maximum(window[..., 0], truth[..., 0])
    common = np.clip(common, 0, None)
    hull = np.maximum(window[..., 1], truth[..., 1]) - np.minimum(window[..., 0], truth[..., 0])
    return np.divide(common, hull, out=np.zeros_like(common), where=hull != 0)


def average_precision(overlap: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Interpolated average precision (Q, T) of windows in falling order of score.

    overlap: (Q, P, G) IoU. counts: (Q, G) bool, the true windows that are to be found, at least one in every row.
    A window is a hit if a true one that it reaches is still free. It takes the one with the highest IoU; among equals
    the last. Queries with few true windows, which are most, are computed apart, without the columns that pad the rest.
    """
    number, precision = counts.sum(1), np.empty((len(counts), len(THRESHOLDS)))
    for part in (number <= FEW, number > FEW):
        if part.any():
            first = np.argsort(~counts[part], axis=1, kind="stable")[:, : number[part].max()]  # in their order
            counted = np.take_along_axis(counts[part], first, 1)
            precision[part] = _average_precision(np.take_along_axis(overlap[part], first[:, None], 2), counted)
    return precision


def _average_precision(overlap: np.ndarray, counts: np.ndarray) -> np.ndarray:
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
    of_ratings = [(saliency.levels >= least) & saliency.is_clip[..., None] for least in RATINGS.values()]  # (Q, C, A)
    precisions = ranking_precision(saliency.scores, saliency.is_clip, np.concatenate(of_ratings, -1))
    parts = np.split(precisions, len(RATINGS), -1)
    for name, positive, precision in zip(RATINGS, of_ratings, parts, strict=True):
        hit = positive[np.arange(len(top)), top].any(1) & inside  # (Q,)
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


def _brief(
    metrics: Mapping[str, Mapping], thresholds: Sequence[float], recall_at: Sequence[int], by_length: Sequence[str]
) -> dict[str, float]:
    moments = {}
    for name in (name for name in metrics if "MR-mAP" in metrics[name]):
        found, wanted = metrics[name], ("mAP", "R", "mIoU") if name == "full" else by_length
        if "mAP" in wanted:
            moments[f"MR-{name}-mAP"] = found["MR-mAP"]["average"]
        if "R" in wanted:
            moments |= {
                f"MR-{name}-R{most}@{t}": found[f"MR-R{most}"][str(float(t))] for most in recall_at for t in thresholds
            }
        if "mIoU" in wanted and "MR-mIoU" in found:
            moments[f"MR-{name}-mIoU"] = found["MR-mIoU"]
        if name == "full":
            moments |= {f"MR-full-mAP@{t}": found["MR-mAP"][t] for t in ("0.5", "0.75")}
    highlights = [f"HL-min-{name}" for name in RATINGS if f"HL-min-{name}" in metrics]
    ratings = {f"{name}-{kind}": metrics[name][f"HL-{kind}"] for name in highlights for kind in ("mAP", "Hit1")}
    return dict(sorted(moments.items())) | ratings


def check_options(
    clip_length: float,
    max_windows: int,
    lengths: Mapping,
    decimals: int | None,
    thresholds: Sequence[float] = SHOWN,
    recall_at: Sequence[int] = (1,),
    by_length: Sequence[str] = (),
) -> None:
    """Raises ValueError for options of `evaluate` out of their range."""
    if not 0 < clip_length < math.inf:
        raise ValueError(f"clip_length must be seconds above 0, got {clip_length!r}")
    if isinstance(max_windows, bool) or not isinstance(max_windows, int) or max_windows < 1:
        raise ValueError(f"max_windows must be an integer from 1, got {max_windows!r}")
    if not (decimals is None or (isinstance(decimals, int) and decimals >= 0)):
        raise ValueError(f"decimals must be None or an integer from 0, got {decimals!r}")
    if not thresholds or not all(0 < threshold <= 1 for threshold in thresholds):
        raise ValueError(f"thresholds must be IoU above 0 and at most 1, at least one, got {list(thresholds)!r}")
    if not recall_at or not all(isinstance(most, int) and most >= 1 for most in recall_at):
        raise ValueError(f"recall_at must be integers from 1 (1 is R1, 5 is R5), at least one, got {list(recall_at)!r}")
    if unknown := [name for name in by_length if name not in BY_LENGTH]:
        raise ValueError(f"by_length cannot have {unknown[0]!r}; allowed: {', '.join(BY_LENGTH)}")
    for name, (above, up_to) in lengths.items():
        if not above < (math.inf if up_to is None else up_to):
            raise ValueError(f"lengths[{name!r}] must be (above, up to) with above < up to, got {(above, up_to)!r}")
        if name in ("full", "brief") or name.startswith("HL-min-"):
            raise ValueError(f"lengths cannot have {name!r}: the metrics have a part of that name")
