"""Captioned clips as a data set: frames or features, with a caption drawn anew in each epoch or with every caption.

    Clips(clips, Pixels(source, 32, 224, 224, mean, std), training=True, captions="all")[[0, 5]]   # a batch

A list as index gives the batch of datamodule.py. An item is an int (epoch 0: evaluation) or a `Draw`, which names the
epoch and the seed too: what is drawn depends on (seed, epoch, clip) alone, for any number of workers.
"""

import zlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.errors import DataError
from datamodules.loading import Draw
from datamodules.normalise import normalise
from datamodules.streams import FolderStream, PackedStream
from datamodules.video_captioning.captions import Clip
from datamodules.video_captioning.sources import FrameFolders, OwnVideo, VideoFiles
from datamodules.video_captioning.transforms import cut

CAPTIONS = ("all", "random")


class Input(Protocol):
    """What a batch holds of its clips."""

    key: str

    def read(self, clip: Clip, rng: np.random.Generator | None) -> Tensor: ...

    def batch(self, values: list[Tensor]) -> Tensor: ...


class Pixels:
    """Normalised frames: (F, 3, S, S) uint8 of a clip, (B, F, 3, S, S) float32 in a batch."""

    key = "frames"

    def __init__(
        self, source: VideoFiles | FrameFolders | OwnVideo, frames: int, short_side: int, size: int, mean, std
    ):
        self.source, self.frames, self.short_side, self.size = source, frames, short_side, size
        self.mean, self.std = list(mean), list(std)

    def read(self, clip: Clip, rng: np.random.Generator | None) -> Tensor:
        return cut(self.source.frames(clip, self.frames), self.short_side, self.size, rng)

    def batch(self, values: list[Tensor]) -> Tensor:
        pixels = torch.stack(values)  # (B, F, 3, S, S)
        return normalise(pixels.flatten(0, 1), self.mean, self.std).unflatten(0, pixels.shape[:2])


class Features:
    """Precomputed grid features: (G, D) float32 of a clip, (B, G, D) in a batch. All clips have G rows."""

    key = "features"

    def __init__(self, stream: FolderStream | PackedStream, grid: int):
        self.stream, self.grid = stream, grid

    def read(self, clip: Clip, rng: np.random.Generator | None = None) -> Tensor:
        file = feature_file(self.stream, clip)
        values = self.stream.read(file, about=clip.id)
        if len(values) != self.grid:
            raise DataError(
                f"{self.stream.path}, {file}: {len(values)} rows, other clips have {self.grid}. Extract it again."
            )
        return torch.from_numpy(values)

    def batch(self, values: list[Tensor]) -> Tensor:
        return torch.stack(values)


def feature_file(stream: FolderStream | PackedStream, clip: Clip) -> str:
    return stream.file_of({"vid": clip.id, "qid": clip.id})


class Clips(Dataset):
    """Clips of one split. A list as index gives a batch; a single item gives a batch of one."""

    def __init__(self, clips: Sequence[Clip], source: Input, *, training: bool, captions: str):
        """captions: "all" enumerates every pair of clip and caption; "random" draws one per clip and epoch."""
        self.clips, self.source, self.training = list(clips), source, training
        self.pairs: list[tuple[int, int | None]] = [(index, 0) for index in range(len(self.clips))]
        if training and captions == "random":
            self.pairs = [(index, None) for index, _ in self.pairs]
        elif training:
            self.pairs = [(i, number) for i, clip in enumerate(self.clips) for number in range(len(clip.captions))]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, item: int | Draw | list) -> dict[str, Any]:
        return self.__getitems__(item if isinstance(item, list) else [item])

    def __getitems__(self, items: Sequence[int | Draw]) -> dict[str, Any]:
        """The batch of these clips. The DataLoader calls it with the items of a batch."""
        draws = [item if isinstance(item, Draw) else Draw(int(item), epoch=0, seed=0) for item in items]
        clips, captions, values = [], [], []
        for draw in draws:
            index, number = self.pairs[draw.index]
            clip = self.clips[index]
            rng = None
            if self.training:
                name = zlib.crc32(clip.id.encode())
                rng = np.random.default_rng([draw.seed, draw.epoch, name, 0 if number is None else 1 + number])
                number = int(rng.integers(len(clip.captions))) if number is None else number
            values.append(self.source.read(clip, rng))
            clips.append(clip)
            captions.append(clip.captions[number])
        return {
            self.source.key: self.source.batch(values),
            "caption": captions,
            "references": [list(clip.captions) for clip in clips],
            "video": [clip.id for clip in clips],
        }


def absent(source: Input, clips: list[Clip]) -> list[Clip]:
    """The clips whose file is not there."""
    if not isinstance(source, Features):
        return source.source.missing(clips)
    gone = set(source.stream.missing(feature_file(source.stream, clip) for clip in clips))
    return [clip for clip in clips if feature_file(source.stream, clip) in gone]
