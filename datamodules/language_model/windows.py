"""Windows of a text: what a model reads, and the next character at each place.

    windows = Windows(text, context=64, split="test")
    windows.__getitems__([0, 1])["characters"]    # (2, 65) int64

Evaluation cuts the text into windows one behind the other, so that every character but the first is a target once. A
training epoch does the same from a random first character on, which depends on (seed, epoch) alone: it sees every
character once, and every epoch sees it at another place of its window.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.loading import Draw

PADDING = -1  # behind the end of the text


class Windows(Dataset):
    """text: (N,) int32 code points. context: characters that a model reads at once. split: the name of the part."""

    def __init__(self, text: np.ndarray, context: int, split: str):
        self.text, self.context, self.split = text, context, split
        self.shifts: dict[tuple[int, int], int] = {}

    @property
    def trains(self) -> bool:
        return self.split == "train"

    def __len__(self) -> int:
        """In training one less than fits, for the random start."""
        return (len(self.text) - self.context if self.trains else len(self.text) - 1 + self.context - 1) // self.context

    def start(self, wanted: Draw | int) -> int:
        """The place of a window's first character in its part of the text."""
        if not isinstance(wanted, Draw):
            return wanted * self.context
        draw = (wanted.seed, wanted.epoch)
        if draw not in self.shifts:
            self.shifts = {draw: int(np.random.default_rng(draw).integers(self.context))}
        return self.shifts[draw] + wanted.index * self.context

    def __getitems__(self, wanted: Sequence[Draw | int]) -> dict:
        """The batch of these windows (datamodules/language_model/datamodule.py)."""
        characters = np.full((len(wanted), self.context + 1), PADDING, np.int64)
        starts = [self.start(one) for one in wanted]
        for row, start in zip(characters, starts, strict=True):
            found = self.text[start : start + self.context + 1]
            row[: len(found)] = found
        return {"characters": torch.from_numpy(characters), "name": [f"{self.split} {start}" for start in starts]}
