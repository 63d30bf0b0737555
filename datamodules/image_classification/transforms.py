"""From decoded images to model input: timm's transforms for single images, and shifts for pixels held in memory.

pixels = plain(size=224, crop_pct=0.875, interpolation="bicubic")(image)   # (3, 224, 224) uint8
moved = shifted(pixels[None], moves)                                       # (1, 3, 224, 224) uint8; moves (1, 2)
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from datamodules.errors import DataError


def plain(size: int, crop_pct: float, interpolation: str) -> Callable[[Image.Image], Tensor]:
    """Resizes the shorter side to size / crop_pct and cuts out the central square -> (3, size, size) uint8."""
    from timm.data import create_transform  # imported here: it takes a second

    transform = create_transform(size, interpolation=interpolation, crop_pct=crop_pct, use_prefetcher=True)
    return partial(_pixels, transform)


def _pixels(transform, image: Image.Image) -> Tensor:
    return torch.as_tensor(transform(image))  # an array or a tensor, by timm's version


def augmented(size: int, mean: Sequence[float], std: Sequence[float], **options) -> Callable[[Image.Image], Tensor]:
    """timm's training transform, normalised -> (3, size, size) float32. options: keywords of timm's create_transform.

    Raises DataError with timm's words if it refuses them.
    """
    from timm.data import create_transform

    try:
        transform = create_transform(size, is_training=True, mean=tuple(mean), std=tuple(std), **options)
    except (AssertionError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in options.items())
        raise DataError(f"timm refuses the augmentation {given}: {type(error).__name__} {error}.") from error
    return _with_black(transform)


def _with_black(transform):
    """timm's posterizing asks for 0 bits at full strength. PIL made that black, and refuses it in newer versions."""
    from timm.data import auto_augment

    for step in transform.transforms:
        operations = getattr(step, "ops", None) or [op for pair in getattr(step, "policy", ()) for op in pair]
        for operation in operations:
            if getattr(operation, "aug_fn", None) is auto_augment.posterize:
                operation.aug_fn = _posterize
    return transform


def _posterize(image: Image.Image, bits: int, **options) -> Image.Image:
    from timm.data.auto_augment import posterize

    return posterize(image, bits, **options) if bits > 0 else Image.new(image.mode, image.size)


def shifted(pixels: Tensor, moves: Tensor) -> Tensor:
    """Every image of (B, C, H, W) moved down and to the right by its row of `moves` (B, 2), in pixels; edges repeat."""
    count, channels, height, width = pixels.shape
    rows = (torch.arange(height) - moves[:, :1]).clamp_(0, height - 1)  # (B, H)
    columns = (torch.arange(width) - moves[:, 1:]).clamp_(0, width - 1)  # (B, W)
    image, channel = torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None]
    return pixels[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
