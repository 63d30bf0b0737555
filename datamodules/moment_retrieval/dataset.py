"""Moments and highlights as a data set: features of a video and a query, and labels drawn anew each epoch.

A list of items gives the batch of datamodule.py. An item is an int (epoch 0: evaluation) or a `Draw`, which names the
epoch and the seed too, so that what is drawn at random depends on (seed, epoch, qid) alone: it is the same for any
number of workers and in a resumed run.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.errors import DataError, some
from datamodules.loading import Draw
from datamodules.moment_retrieval.labels import (
    LabelSettings,
    annotated_saliency,
    label_saliency,
    moment_spans,
    window_saliency,
)
from datamodules.streams import FolderStream, PackedStream

SOFTENING = 1e-5  # added to a row's length before the row is divided by it


@dataclass(frozen=True)
class Lengths:
    """Sizes of what is read and labelled."""

    max_clips: int
    max_tokens: int
    max_windows: int
    clip_length: float  # seconds
    length_slack: int  # clips by which the streams of a video may differ
    labels: LabelSettings | None = None  # of data.saliency=labels


def unit_rows(values: np.ndarray) -> np.ndarray:
    """x / (||x|| + 1e-5), row by row, (n, width)."""
    return values / (np.sqrt(np.einsum("nd,nd->n", values, values))[:, None] + SOFTENING)


class Features:
    """The finished features of videos and queries, read from their streams, or held in memory once read."""

    def __init__(
        self,
        video: Sequence[FolderStream | PackedStream],
        text: FolderStream | PackedStream,
        lengths: Lengths,
        *,
        tef: bool,
        hold: bool,
    ):
        self.streams, self.text_stream, self.lengths, self.tef = list(video), text, lengths, tef
        self.held: dict[tuple[str, str], np.ndarray] | None = {} if hold else None
        self.width = sum(stream.width for stream in self.streams) + 2 * tef

    def hold(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Reads now what these rows need."""
        for row in rows:
            self.video(row)
            self.text(row)

    def video(self, row: Mapping[str, Any]) -> np.ndarray:
        """(T, width) float32: the streams one beside the other, then where the clip begins and ends in [0, 1]."""
        return self._once(("video", row["vid"]), self._read_video, row)

    def text(self, row: Mapping[str, Any]) -> np.ndarray:
        """(N, text_dim) float32."""
        return self._once(("text", str(row["qid"])), self._read_text, row)

    def _once(self, key, read, row) -> np.ndarray:
        if self.held is None:
            return read(row)
        if key not in self.held:
            self.held[key] = read(row)
        return self.held[key]

    def _read_text(self, row) -> np.ndarray:
        about = f"qid {row['qid']}, vid {row['vid']}"
        stream = self.text_stream
        return unit_rows(stream.read(stream.file_of(row), about=about, limit=self.lengths.max_tokens))

    def _read_video(self, row) -> np.ndarray:
        about, limit = f"qid {row['qid']}, vid {row['vid']}", self.lengths.max_clips
        parts = [stream.read(stream.file_of(row), about=about, limit=limit) for stream in self.streams]
        counts = [len(part) for part in parts]
        clips = min(counts)
        if max(counts) - clips > self.lengths.length_slack:
            named = [f"{count} in {stream.path}" for stream, count in zip(self.streams, counts, strict=True)]
            raise DataError(
                f"{about}: streams of different lengths (clips, of at most {limit}): {some(named)}. They may differ by "
                f"{self.lengths.length_slack} (data.length_slack)."
            )
        parts = [unit_rows(part[:clips]) for part in parts]
        if self.tef:
            begin = np.arange(clips, dtype=np.float32) / clips
            parts.append(np.stack([begin, begin + np.float32(1 / clips)], axis=1))
        return np.concatenate(parts, axis=1)


class MomentDataset(Dataset):
    """Queries of one split. `__getitems__` gives the batch of several items; `__getitem__` gives a batch of one."""

    def __init__(self, rows: list[dict[str, Any]], features: Features, lengths: Lengths, saliency: str):
        self.rows, self.features, self.lengths, self.saliency = rows, features, lengths, saliency

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int | Draw) -> dict[str, Any]:
        return self.__getitems__([item])

    def __getitems__(self, items: Sequence[int | Draw]) -> dict[str, Any]:
        """The batch of these queries. The DataLoader calls it with the items of a batch."""
        draws = [item if isinstance(item, Draw) else Draw(int(item), epoch=0, seed=0) for item in items]
        rows = [self.rows[draw.index] for draw in draws]
        video, video_keep = padded([self.features.video(row) for row in rows])
        text, text_keep = padded([self.features.text(row) for row in rows])
        batch: dict[str, Any] = {
            "video": video,
            "video_keep": video_keep,
            "text": text,
            "text_keep": text_keep,
            "spans": [],
            "annotation": rows,
        }
        scores, more, less = [], [], []
        for row, draw, clips in zip(rows, draws, video_keep.sum(1).tolist(), strict=True):
            rng = np.random.default_rng([draw.seed, draw.epoch, zlib.crc32(str(row["qid"]).encode())])
            batch["spans"].append(torch.from_numpy(self._spans(row, clips, rng)))
            if self.saliency != "none":
                labels = self._saliency(row, clips, rng)
                for kept, label in zip((scores, more, less), labels, strict=True):
                    kept.append(label)
        if self.saliency != "none":
            batch["saliency"] = padded([score[:, None] for score in scores])[0].squeeze(-1)
            batch["saliency_pos"] = torch.from_numpy(np.stack(more))
            batch["saliency_neg"] = torch.from_numpy(np.stack(less))
        return batch

    def _spans(self, row, clips: int, rng) -> np.ndarray:
        windows = row.get("relevant_windows", [])
        return moment_spans(windows, clips, self.lengths.clip_length, self.lengths.max_windows, rng)

    def _saliency(self, row, clips: int, rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.saliency == "labels":
            return label_saliency(row["label"], clips, self.lengths.labels, rng)
        if self.saliency == "windows":
            return window_saliency(row["relevant_windows"], clips, self.lengths.clip_length, rng)
        return annotated_saliency(row["relevant_clip_ids"], row["saliency_scores"], clips, rng)


def padded(parts: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """B arrays (n_i, width) -> values (B, longest, width) float32, zeros where keep (B, longest) is False, and keep."""
    counts = torch.tensor([len(part) for part in parts])
    values = np.zeros((len(parts), int(counts.max()), parts[0].shape[1]), np.float32)
    for row, part in zip(values, parts, strict=True):
        row[: len(part)] = part
    return torch.from_numpy(values), torch.arange(values.shape[1]) < counts[:, None]
