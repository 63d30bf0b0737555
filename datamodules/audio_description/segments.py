"""Segments of one split, as batches; the batch contract is in datamodule.py."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset

from datamodules.audio_description.context import Texts
from datamodules.audio_description.tracks import Track
from datamodules.loading import Draw


class Segments(Dataset):
    """Segments in (movie, start) order. A list as index gives a batch; an int or a `Draw` gives a batch of one."""

    def __init__(self, table: pd.DataFrame, video: Track, audio: Track, context: Mapping[str, Texts] | None = None):
        """context: batch key -> the texts of each segment (context.py)."""
        self.video, self.audio, self.context = video, audio, dict(context or {})
        self.text, self.movie, self.ann_id = (table[name].tolist() for name in ("text", "movie", "ann_id"))
        self.start, self.end = (torch.tensor(table[name].to_numpy(np.float64)) for name in ("start", "end"))

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, item: int | Draw | list) -> dict[str, Any]:
        return self.__getitems__(item if isinstance(item, list) else [item])

    def __getitems__(self, items: Sequence[int | Draw]) -> dict[str, Any]:
        """The batch of these segments. The DataLoader calls it with the items of a batch; none draws anything."""
        indices = [item.index if isinstance(item, Draw) else int(item) for item in items]
        video, video_keep = self.video.batch(indices)
        audio, audio_keep = self.audio.batch(indices)
        return {
            "video": video,
            "audio": audio,
            "video_keep": video_keep,
            "audio_keep": audio_keep,
            "text": [self.text[i] for i in indices],
            "movie": [self.movie[i] for i in indices],
            "start": self.start[indices],
            "end": self.end[indices],
            "ann_id": [self.ann_id[i] for i in indices],
            **{name: [texts[i] for i in indices] for name, texts in self.context.items()},
        }
