"""Mixup (arXiv 1710.09412), CutMix (1905.04899) and label smoothing on a batch, by timm.

>>> images, targets = Mixing(classes=1000, mixup=0.8, cutmix=1.0, smoothing=0.1)(images, labels, draw=(seed, epoch, 7))
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from timm.data.mixup import Mixup, mixup_target
from torch import Tensor


class Mixing:
    """Mixes the images and labels of a batch.

    mixup, cutmix: parameters of their Beta distributions, 0 = without. probability: probability of mixing at all.
    switch: probability of CutMix if both are used. mode: one choice for the batch, for each pair of images or for each
    image.
    """

    def __init__(
        self,
        classes: int,
        *,
        mixup: float = 0.8,
        cutmix: float = 1.0,
        probability: float = 1.0,
        switch: float = 0.5,
        mode: Literal["batch", "pair", "elem"] = "batch",
        smoothing: float = 0.1,
    ):
        self.classes, self.smoothing = classes, smoothing
        options = dict(prob=probability, switch_prob=switch, mode=mode, label_smoothing=smoothing, num_classes=classes)
        self.mix = Mixup(mixup, cutmix, **options) if mixup or cutmix else None

    def __call__(self, images: Tensor, labels: Tensor, draw: Sequence[int]) -> tuple[Tensor, Tensor]:
        """images (B, 3, S, S), labels (B,) -> new images, targets (B, classes) whose rows sum to 1.

        draw: numbers, at least 0, on which alone the choices depend: so a resumed run mixes as one that was never
        stopped, and each rank has a mixture of its own.

        timm mixes an image with the one at its mirror place and refuses odd batches: their last image stays as it is.
        """
        targets = mixup_target(labels, self.classes, 1.0, self.smoothing)
        even = len(images) // 2 * 2
        if self.mix is None or even == 0:
            return images, targets
        with numpy_seeded(draw):
            mixed, soft = self.mix(images[:even].clone(), labels[:even])  # it writes in place
        return torch.cat([mixed, images[even:]]), torch.cat([soft, targets[even:]])


@contextmanager
def numpy_seeded(draw: Sequence[int]) -> Iterator[None]:
    """Inside the block NumPy's global random numbers, which timm uses, come from `draw`; afterwards they go on."""
    before = np.random.get_state()
    np.random.seed(np.random.SeedSequence(draw).generate_state(4))
    try:
        yield
    finally:
        np.random.set_state(before)
