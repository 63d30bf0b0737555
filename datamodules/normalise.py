"""Pixels as model input.

batch = normalise(pixels, mean, std)    # (B, 3, H, W) uint8 -> float32
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(B, 3, H, W) uint8 -> float32, (x / 255 - mean) / std per channel: torchvision's operations in their order."""
    mean, std = (torch.tensor(list(value), dtype=torch.float32).view(3, 1, 1) for value in (mean, std))
    return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)
