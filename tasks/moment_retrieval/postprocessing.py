"""From a model's outputs to rows of a submission file: windows in seconds with scores, and a saliency per clip."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.moment_retrieval.legal import scored_clips
from tasks.moment_retrieval.model import FOREGROUND
from tasks.moment_retrieval.spans import start_end

DECIMALS = 4  # decimals of windows and scores, as in the original's submissions


def ranked_windows(
    logits: Tensor, spans: Tensor, whole: Tensor, longest: Tensor, clip_length: float | None
) -> list[list[list[float]]]:
    """logits (B, Q, 2), spans (B, Q, 2), whole (B,): seconds that a share of 1 is -> per video [start, end, score],
    best first.

    longest: (B,), seconds after which no window ends. clip_length: windows start and end at multiples of it; None
    leaves them as they are. Rounding may give windows of no length, and equal ones: both are legal.
    """
    scores = logits.float().softmax(-1)[..., FOREGROUND].cpu()  # (B, Q)
    seconds = start_end(spans.float()).cpu() * whole[:, None, None]
    order = scores.argsort(dim=1, descending=True, stable=True)
    scores, seconds = scores.gather(1, order), seconds.gather(1, order[..., None].expand(-1, -1, 2))
    seconds = torch.minimum(seconds.clamp(min=0), longest[:, None, None])
    if clip_length is not None:
        seconds = (seconds / clip_length).round() * clip_length
    rows = torch.cat([seconds, scores[..., None]], -1).tolist()
    return [[[round(number, DECIMALS) for number in window] for window in windows] for windows in rows]


def saliency_curves(saliency: Tensor, keep: Tensor) -> list[list[float]]:
    """saliency (B, T), keep (B, T) -> a score for each real clip, in half precision as the original's submissions."""
    rounded = saliency.half().float().cpu()
    return [scores[real].tolist() for scores, real in zip(rounded, keep.cpu(), strict=True)]


def submission_rows(
    outputs: dict[str, Tensor],
    batch: dict[str, Any],
    clip_length: float,
    longest: float | None,
    rounded: bool = True,
) -> list[dict[str, Any]]:
    """The rows of a submission file, beside their annotations (which `evaluate` scores them against).

    longest: seconds after which no window ends, for all videos; None is each video's duration.
    rounded: as published (`published_whole`), and windows end at whole clips. False: shares are of what was read, as
        the labels are, and windows end where the model says.
    """
    annotations = batch["annotation"]
    duration = torch.tensor([row["duration"] for row in annotations], dtype=torch.float32)
    last = duration if longest is None else torch.full_like(duration, longest)
    read = batch["video_keep"].sum(1).cpu() * clip_length
    whole = published_whole(read, duration, clip_length) if rounded else read
    windows = ranked_windows(outputs["logits"], outputs["spans"], whole, last, clip_length if rounded else None)
    curves = saliency_curves(outputs["saliency"], batch["video_keep"])
    return [
        {**annotation, "pred_relevant_windows": ranked, "pred_saliency_scores": curve}
        for annotation, ranked, curve in zip(annotations, windows, curves, strict=True)
    ]


def published_whole(read: Tensor, duration: Tensor, clip_length: float) -> Tensor:
    """Seconds (B,) that a share of 1 is, of the seconds that were read and the durations (B,): the duration.

    It is what was read if only a part of the video was, by more than a clip. (The original stretches the windows of a
    video that it has cut.)
    """
    return torch.where((read - duration).abs() > clip_length, read, duration)


def whole_curve(curve: list[float], duration: float, clip_length: float, relevant: Sequence[int] = ()) -> list[float]:
    """A saliency for every clip of the video: a curve that ends more than a clip early goes on with its lowest score.

    relevant: clips that are rated, which may be the cut last one. (A curve that lacks the last clip is legal, and stays
    as it is.)
    """
    missing = scored_clips(duration, clip_length, max(relevant, default=-1)) - len(curve)
    return curve + [min(curve)] * missing if missing > 1 else curve
