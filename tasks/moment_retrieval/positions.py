"""Sinusoidal positions of clips and of time spans (QD-DETR, DAB-DETR)."""

import math

import torch
from torch import Tensor

BASE = 10_000.0


def sines(share: Tensor, dim: int) -> Tensor:
    """Shares of the video in [0, 1], (...) -> sine and cosine alternating at dim / 2 frequencies: (..., dim)."""
    frequency = BASE ** -(torch.arange(0, dim, 2, dtype=torch.float32, device=share.device) / dim)
    angle = 2 * math.pi * share[..., None] * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)


def of_clips(keep: Tensor, dim: int) -> Tensor:
    """keep (B, T), True = a clip of the video -> (B, T, dim). Clip i of n is at (i + 1) / n, for any padding."""
    number = keep.cumsum(1, dtype=torch.float32)
    return sines(number / number[:, -1:].clamp(min=1), dim)


def of_spans(spans: Tensor, dim: int) -> Tensor:
    """(centre, width) spans (..., 2) -> (..., dim): half the features for each."""
    return sines(spans, dim // 2).flatten(-2)
