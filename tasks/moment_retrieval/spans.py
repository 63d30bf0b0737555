"""Time spans as (centre, width) or (start, end), both as shares of the video, and how much two of them overlap."""

import torch
from torch import Tensor


def start_end(spans: Tensor) -> Tensor:
    """(centre, width) -> (start, end): (..., 2)."""
    centre, width = spans.unbind(-1)
    return torch.stack([centre - 0.5 * width, centre + 0.5 * width], -1)


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of spans given by start and end, (..., 2) and (..., 2), which broadcast -> (...), in (-1, 1].

    IoU minus the share of the hull that neither covers. Two spans of no length at one place have 0 (0/0 is avoided).
    """
    inner = (torch.minimum(a[..., 1], b[..., 1]) - torch.maximum(a[..., 0], b[..., 0])).clamp(min=0)
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - inner
    hull = torch.maximum(a[..., 1], b[..., 1]) - torch.minimum(a[..., 0], b[..., 0])
    tiny = torch.finfo(a.dtype).tiny
    return inner / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """log(x / (1 - x)) with both parts at least `eps`: finite on all of [0, 1]."""
    return torch.log(x.clamp(min=eps, max=1) / (1 - x).clamp(min=eps, max=1))
