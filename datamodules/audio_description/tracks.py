"""One feature track of a list of segments: which rows are read, from where, and on which scale.

It is asked for in batches:

    track = Track(features, width, movies, rows)     # rows (S, T), -1 = padding
    track.hold()                                     # optional: all rows into memory
    track.scale(*track.statistics())                 # optional: (x - mean) / (std + 0.1)
    values, keep = track.batch([3, 0, 7])            # (3, T, width) float32, (3, T) bool
"""

import numpy as np
import torch
from torch import Tensor

from datamodules.audio_description.rows import MovieFeatures

SOFTENING = 0.1  # added to the standard deviation, so that features that hardly vary do not become large


class Track:
    """Values of padded rows, and of a blank track, are zero and their keep is False."""

    def __init__(self, features: MovieFeatures | None, width: int, movies: list[str], rows: np.ndarray):
        """features: None for a blank track; movies: (S,) each segment's movie; rows: (S, T) its rows, -1 = padding."""
        self.features, self.width, self.movies = features, width, movies
        self.rows = torch.as_tensor(rows)  # (S, T)
        self.keep = (self.rows >= 0) & (features is not None)  # (S, T)
        self.memory: Tensor | None = None  # (all rows of all movies, width)
        self.mean, self.std = torch.zeros(()), torch.ones(())
        self.unit_length = False

    def hold(self) -> None:
        """Reads the movies into memory, once; batches then cost one indexing operation."""
        if self.features is None or not self.movies:
            return
        lengths = self.features.lengths(dict.fromkeys(self.movies))
        parts, offsets, total = [], {}, 0
        for movie, length in lengths.items():
            parts.append(torch.from_numpy(self.features.read(movie, 0, length)))
            offsets[movie], total = total, total + length
        self.memory = torch.cat(parts)
        first = torch.tensor([offsets[movie] for movie in self.movies])
        self.rows = torch.where(self.keep, self.rows + first[:, None], 0)

    def scale(self, mean: Tensor, std: Tensor) -> None:
        """From now on (x - mean) / std; mean, std (width,)."""
        self.mean, self.std = mean, std
        if self.memory is not None:
            self.memory = (self.memory - mean) / std

    def normalise_length(self) -> None:
        """From now on every row has Euclidean length 1 (a row of zeros stays zero)."""
        self.unit_length = True
        if self.memory is not None:
            self.memory = torch.nn.functional.normalize(self.memory, dim=-1)

    def statistics(self, batch: int = 512) -> tuple[Tensor, Tensor]:
        """Mean and softened standard deviation of every feature over the real tokens, (width,) float32 each."""
        count, (total, squares) = 0, torch.zeros(2, self.width, dtype=torch.float64)
        for first in range(0, len(self.keep), batch):
            values, keep = self.batch(range(first, min(first + batch, len(self.keep))))
            real = values[keep].double()
            count, total, squares = count + len(real), total + real.sum(0), squares + (real**2).sum(0)
        mean = total / max(count, 1)
        std = (squares / max(count, 1) - mean**2).clamp(min=0).sqrt()
        return mean.float(), (std + SOFTENING).float()

    def batch(self, ids) -> tuple[Tensor, Tensor]:
        """Segments ids -> values (B, T, width) float32 and keep (B, T) bool, True = a real token."""
        ids = torch.as_tensor(ids)
        keep = self.keep[ids]
        if self.features is None:
            return torch.zeros(*keep.shape, self.width), keep
        if self.memory is not None:
            values = self.memory[self.rows[ids]]
        else:
            values = torch.stack([self._read(int(i)) for i in ids])
            values = (values - self.mean) / self.std
            if self.unit_length:
                values = torch.nn.functional.normalize(values, dim=-1)
        return values.masked_fill(~keep[..., None], 0.0), keep

    def _read(self, i: int) -> Tensor:
        """Tokens of one segment from the file, (T, width): one contiguous slice, then an index."""
        rows, keep = self.rows[i], self.keep[i]
        real = rows[keep]
        first, last = int(real.min()), int(real.max())
        slab = torch.from_numpy(self.features.read(self.movies[i], first, last + 1))
        values = torch.zeros(len(rows), self.width)
        values[keep] = slab[real - first]
        return values
