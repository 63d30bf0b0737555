"""The images of one split as batches, decoded when they are asked for or held as pixels.

    pictures = Pictures(ImageFolder(path), rows, labels, plain(224, 0.875, "bicubic"), mean, std)
    pictures[[3, 1, 4]]     # {"image": (3, 3, 224, 224), "label": (3,), "name": [3 str]}

An index is a number, or a `Draw`, which names the epoch and the seed too: what an image's augmentation draws depends on
(seed, epoch, number of the image) alone, for any number of workers and ranks.
"""

import contextlib
import copy
import functools
import os
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.formats.names import printable
from datamodules.image_classification.transforms import shifted
from datamodules.loading import Draw
from datamodules.normalise import normalise
from datamodules.pixels import DEEP, decode

COPIES = 8  # tables of random choices that are kept: of an epoch, and of each copy of its images


class Pictures(Dataset):
    """Images of one split, in order of their names. A list as index gives a batch; an int gives a batch of one.

    rows (N,): positions in `source`; labels: the class of every image of `source`; transform: image -> (3, S, S),
    uint8 pixels or normalised float32; shift: uint8 images are moved by up to so many pixels along each axis; flip: the
    probability that they are mirrored, left to right; chance: whether the transform draws at random; white: see
    datamodules/pixels.py.
    """

    def __init__(self, source, rows, labels, transform, mean, std, shift=0, flip=0.0, chance=False, white=DEEP):
        self.source, self.rows = source, rows
        self.labels = torch.from_numpy(labels[rows].astype(np.int64))  # (N,)
        self.transform, self.mean, self.std = transform, mean, std
        self.shift, self.flip, self.chance, self.white = shift, flip, chance, white
        self.held: Tensor | None = None  # (N, 3, S, S) uint8

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        return printable(os.fsdecode(self.source.names[self.rows[index]]))

    def __getitem__(self, item: int | Draw | list) -> dict[str, Any]:
        return self.__getitems__(item if isinstance(item, list) else [item])

    def __getitems__(self, items: Sequence[int | Draw]) -> dict[str, Any]:
        """The batch of these images; see datamodule.py. The DataLoader calls it with the items of a batch."""
        draws = [item if isinstance(item, Draw) else Draw(int(item), epoch=0, seed=0) for item in items]
        indices = [draw.index for draw in draws]
        pixels = self.held[indices] if self.held is not None else torch.stack([self._decoded(draw) for draw in draws])
        if pixels.dtype == torch.uint8:
            if self.shift:
                table = [moves(len(self), self.shift, *key_of(draw))[draw.index] for draw in draws]
                pixels = shifted(pixels, torch.from_numpy(np.stack(table)))
            if self.flip:
                table = [mirrored(len(self), self.flip, *key_of(draw))[draw.index] for draw in draws]
                pixels = torch.where(torch.tensor(table)[:, None, None, None], pixels.flip(-1), pixels)
            pixels = normalise(pixels, self.mean, self.std)
        return {"image": pixels, "label": self.labels[indices], "name": [self.name(i) for i in indices]}

    def _decoded(self, draw: Draw) -> Tensor:
        """One transformed image, (3, S, S). Raises DataError that names an image which cannot be decoded."""
        row = self.rows[draw.index]
        image = decode(self.source.read(row), self.source.where(row), self.white)
        if not self.chance:
            return self.transform(image)
        with drawn_from(*key_of(draw), draw.index):
            return self.transform(image)

    def look(self, transform) -> "Pictures":
        """These images with another transform and without augmentation."""
        other = copy.copy(self)
        other.transform, other.shift, other.flip, other.chance = transform, 0, 0.0, False
        return other

    def pixels(self) -> Tensor:
        """All transformed images, (N, 3, S, S)."""
        if self.held is not None or not len(self):
            return self.held
        return torch.stack([self._decoded(Draw(index, epoch=0, seed=0)) for index in range(len(self))])

    def hold(self) -> None:
        """Decodes all images now, to keep them in memory."""
        self.held = self.pixels()


def key_of(draw: Draw) -> tuple[int, ...]:
    """What the random choices for an image depend on besides its number; a first copy draws as an only one does."""
    return (draw.seed, draw.epoch, *([draw.copy] if draw.copy else []))


@functools.lru_cache(maxsize=COPIES)
def moves(count: int, most: int, *key: int) -> np.ndarray:
    """(count, 2): how far each image is moved down and to the right in the epoch that `key` names."""
    return np.random.default_rng(key).integers(-most, most + 1, (count, 2))


@functools.lru_cache(maxsize=COPIES)
def mirrored(count: int, probability: float, *key: int) -> np.ndarray:
    """(count,) bool: which images are mirrored in the epoch that `key` names. Its numbers are not those of `moves`."""
    return np.random.default_rng([*key, 0xF11B]).random(count) < probability


@contextlib.contextmanager
def drawn_from(*key: int) -> Iterator[None]:
    """Seeds Python's, NumPy's and torch's CPU generators by `key`, and restores their states afterwards.

    timm and torchvision draw from all three. torch.manual_seed would reseed an accelerator's generator too.
    """
    words = [int(word) for word in np.random.SeedSequence(key).generate_state(3)]
    states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(words[0])
    np.random.seed(words[1])
    torch.default_generator.manual_seed(words[2])
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.default_generator.set_state(states[2])
