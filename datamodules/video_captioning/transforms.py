"""From decoded frames to model input: the short side resized, one square cut out of all frames of a clip.

    cut(frames, 224, 224, rng)     # (F, H, W, 3) uint8 -> (F, 3, 224, 224) uint8; rng None: the centre

This is SwinBERT's transform: bilinear, a random crop in training and the central one in evaluation, the same for all
frames, no flip.
"""

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional


def cut(frames: np.ndarray, short_side: int, size: int, rng: np.random.Generator | None) -> Tensor:
    """frames (F, H, W, 3) uint8 -> (F, 3, size, size) uint8; short_side >= size, in pixels."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)  # (F, 3, H, W)
    height, width = pixels.shape[-2:]
    if min(height, width) != short_side:
        pixels = functional.resize(pixels, [short_side], antialias=True)  # bilinear
        height, width = pixels.shape[-2:]
    if rng is None:
        top, left = round((height - size) / 2), round((width - size) / 2)
    else:
        top, left = (int(rng.integers(room - size + 1)) for room in (height, width))
    return pixels[:, :, top : top + size, left : left + size].contiguous()
