"""MAD-v2 audio description: a described segment of a movie as 25 visual and 25 audio tokens, and its sentence.

Batch contract (B segments, T = `tokens` per modality):

    video        (B, T, video_dim) float32     zeros where video_keep is False
    audio        (B, T, audio_dim) float32
    video_keep   (B, T) bool                   True = real token
    audio_keep   (B, T) bool
    text         list of B str                 the description; the task tokenises it
    movie        list of B str
    start, end   (B,) float64, seconds
    ann_id       list of B str                 unique; evaluation order is (movie, start)

    data = MADv2(root="data/madv2", ...)       # configs/data/madv2.yaml explains every keyword
    data.prepare_data()                        # finds or generates the files; DataError says what is missing
    data.facts()                               # {"video_dim", "audio_dim", "tokens", "train_texts"}
"""

import contextlib
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.annotations import read_annotations
from datamodules.errors import DataError, some
from datamodules.hdf5 import FeatureFile
from datamodules.loading import loader
from datamodules.mini import madv2 as mini_madv2
from datamodules.mini.store import settings_from
from datamodules.options import at_least, one_of
from datamodules.sampling import SAMPLINGS, sample_rows, segment_rows
from datamodules.splits import Described, read_splits
from datamodules.tracks import Track

log = logging.getLogger(__name__)

SMALL = 512 * 2**20  # bytes of features that in_memory=auto holds at most, all splits together
AUDIO_SLACK = 1.0  # seconds by which a movie's two tracks may differ; the longer one is cut
NEIGHBOURS = 16  # sentences of one movie that R@k/16 compares
LEAST = {
    "video_dim": 1,
    "audio_dim": 1,
    "tokens": 1,
    "batch_size": 1,
    "eval_batch_size": 1,
    "num_workers": 0,
    "seed": 0,
}
ALLOWED = {"sampling": SAMPLINGS, "normalise": ("none", "l2", "standard"), "tracks": ("both", "video", "audio")}


class Segments(Dataset):
    """Segments of one split. Indexed with a list it returns a batch; with an int, a batch of one."""

    def __init__(self, table: pd.DataFrame, video: Track, audio: Track):
        self.video, self.audio = video, audio
        self.text, self.movie, self.ann_id = (table[name].tolist() for name in ("text", "movie", "ann_id"))
        self.start, self.end = (torch.tensor(table[name].to_numpy(np.float64)) for name in ("start", "end"))

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """The batch of these segments; see the module's contract. Called by the DataLoader with a batch's indices."""
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
        }


class MADv2(pl.LightningDataModule):
    """MAD-v2 for training and MAD-eval for testing, or the mini set in the same files."""

    def __init__(
        self,
        *,
        root: str,
        video_features: str,
        audio_features: str | None,
        train_annotations: str,
        eval_annotations: str,
        split: str,
        train_split: str,
        val_split: str | int,
        test_split: str,
        video_dim: int,
        audio_dim: int,
        batch_size: int,
        eval_batch_size: int,
        fps: float = 5.0,
        tokens: int = 25,
        sampling: Literal["segment_pad", "window", "linspace"] = "segment_pad",
        normalise: Literal["none", "l2", "standard"] = "none",
        tracks: Literal["both", "video", "audio"] = "both",
        in_memory: bool | Literal["auto"] = "auto",
        num_workers: int = 0,
        seed: int = 0,
        sounds: Literal["tones", "speech"] | None = None,
        speech_dir: str | None = None,
        mini: dict[str, int | float] | None = None,
    ):
        """File names are relative to `root`; `mini`: sizes of the generated set (MiniSettings), None = the real data.

        Raises DataError: a number below its least value, an unknown option; mini settings that are unknown, missing or
        of a wrong type.
        """
        super().__init__()
        self.root = Path(root)
        self.files = mini_madv2.Files(video_features, audio_features, train_annotations, eval_annotations, split)
        self.splits = {"train": train_split, "val": val_split, "test": test_split}
        self.video_dim, self.audio_dim = video_dim, audio_dim
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.fps, self.tokens, self.sampling, self.normalise = fps, tokens, sampling, normalise
        self.tracks, self.in_memory = tracks, in_memory
        self.seed, self.sounds, self.speech_dir = seed, sounds, speech_dir
        self.mini = None if mini is None else settings_from(mini_madv2.MiniSettings, mini)
        self.folder = self.root
        self.segments: dict[str, Segments] = {}
        self._check()

    def _check(self) -> None:
        if not 0 < self.fps < float("inf"):
            raise DataError(f"data.fps={self.fps}: feature rows a second are more than 0 (MAD: 5.0).")
        at_least(vars(self), LEAST)
        one_of(vars(self), ALLOWED)

    # Files

    def prepare_data(self) -> None:
        """Generates the mini set unless it is there; for real data checks that every file is. Raises DataError."""
        if self.mini is not None:
            self.folder = self._mini_folder()
            return
        names = [name for name in vars(self.files).values() if name is not None]
        missing = [name for name in names if not (self.root / name).is_file()]
        if missing:
            raise DataError(
                f"MAD-v2: missing {some(missing)}; looked in {self.root.resolve()}. How to get the files and where "
                "to put them: docs/datasets.md#mad-v2. Another place: data.root=... or paths.data_dir=... . "
                "scale=mini runs the same experiment on generated data."
            )

    def _mini_folder(self) -> Path:
        return mini_madv2.write_mini(
            self.root, self.mini, self.files, sounds=self.sounds or "tones", speech_dir=self.speech_dir, seed=self.seed
        )

    # Splits

    def setup(self, stage: str | None = None) -> None:
        """Reads annotations, splits and movie lengths, once, whatever the stage. Raises DataError."""
        if self.segments:
            return
        if self.mini is not None:
            self.folder = self._mini_folder()  # another process may have generated it
        level = logging.WARNING if self.mini is None else logging.INFO  # the mini set's bad rows are there on purpose
        tables = [read_annotations(self.folder / name, level) for name in (self.files.train, self.files.eval)]
        described = [
            Described(name, set(table["movie"]))
            for name, table in zip((self.files.train, self.files.eval), tables, strict=True)
        ]
        movies = read_splits(self.folder / self.files.split, self.splits, *described)
        used = [movie for split in movies.values() for movie in split]
        video = FeatureFile(self.folder / self.files.video, self.video_dim)
        audio = None if self.files.audio is None else FeatureFile(self.folder / self.files.audio, self.audio_dim)
        lengths = self._lengths(video, audio, used)
        hold = self._hold(lengths)
        sources = {"train": tables[:1], "val": tables, "test": tables[1:]}
        for split, names in movies.items():
            table = pd.concat([source[source["movie"].isin(names)] for source in sources[split]])
            self.segments[split] = self._segments(split, table, lengths, video, audio, hold)
        self._normalise()
        self._warn_of_short_movies()

    # Segments

    def _lengths(self, video: FeatureFile, audio: FeatureFile | None, movies: list[str]) -> dict[str, int]:
        """Feature rows of each movie. DataError: missing movies, wrong width, tracks of different lengths."""
        lengths = video.lengths(movies)
        if audio is None:
            return lengths
        other = audio.lengths(movies)
        for movie in movies:
            if abs(lengths[movie] - other[movie]) > AUDIO_SLACK * self.fps:
                raise DataError(
                    f"movie {movie}: {lengths[movie]} rows in {video.path} and {other[movie]} in {audio.path}; they "
                    f"may differ by at most {AUDIO_SLACK} s = {AUDIO_SLACK * self.fps:.0f} rows."
                )
        return {movie: min(lengths[movie], other[movie]) for movie in movies}

    def _hold(self, lengths: dict[str, int]) -> bool:
        if self.in_memory != "auto":
            return self.in_memory
        return sum(lengths.values()) * (self.video_dim + self.audio_dim) * 4 <= SMALL

    def _segments(self, split: str, table: pd.DataFrame, lengths, video, audio, hold: bool) -> Segments:
        """The split's segments in (movie, start) order, without those that begin after their movie's features end."""
        table = table.sort_values(["movie", "start"], kind="stable", ignore_index=True)
        spans = [
            segment_rows(start, end, self.fps, lengths[movie])
            for movie, start, end in zip(table["movie"], table["start"], table["end"], strict=True)
        ]
        inside = np.array([first for first, _ in spans]) < table["movie"].map(lengths).to_numpy()
        if not inside.all():
            log.warning(
                "%s: begins after the features of its movie end (left out) in %d rows: %s",
                split, (~inside).sum(), some(table["ann_id"][~inside]),
            )  # fmt: skip
        table, spans = table[inside], [span for span, keep in zip(spans, inside, strict=True) if keep]
        movies = table["movie"].tolist()
        rows = [
            sample_rows(first, stop, lengths[movie], self.tokens, self.sampling)
            for (first, stop), movie in zip(spans, movies, strict=True)
        ]
        rows = np.stack(rows) if rows else np.empty((0, self.tokens), np.int64)
        pair = []
        for name, features, width in (("video", video, self.video_dim), ("audio", audio, self.audio_dim)):
            track = Track(features if self.tracks in ("both", name) else None, width, movies, rows)
            if hold:
                track.hold()
            pair.append(track)
        return Segments(table, *pair)

    def _warn_of_short_movies(self) -> None:
        """Recall within 16 neighbours needs a test movie with that many segments; a run without one goes on."""
        longest = max(Counter(self.segments["test"].movie).values(), default=0)
        if longest < NEIGHBOURS:
            hint = "" if self.mini is None else f" data.mini.segments={self.mini.segments} is below {NEIGHBOURS}."
            log.warning(
                "no test movie has %d segments, the longest has %d: there is no recall within %d neighbours.%s",
                NEIGHBOURS, longest, NEIGHBOURS, hint,
            )  # fmt: skip

    def _normalise(self) -> None:
        """Puts the features of all splits on one scale; the statistics come from the training segments."""
        for name, features in (("video", self.files.video), ("audio", self.files.audio)):
            tracks = [getattr(segments, name) for segments in self.segments.values()]
            if tracks[0].features is None or self.normalise == "none":
                continue
            if self.normalise == "l2":
                for track in tracks:
                    track.normalise_length()
                continue
            mean, std = self._statistics(tracks[0], self.folder / features)
            for track in tracks:
                track.scale(mean, std)

    def _statistics(self, track: Track, path: Path) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and softened deviation of the training tokens, kept beside the features, keyed by what they are of."""
        about = path.stat()
        key = hashlib.sha256(repr((about.st_size, about.st_mtime_ns, self.sampling, self.tokens, self.fps)).encode())
        key.update(repr(track.movies).encode())
        key.update(track.rows.numpy().tobytes())
        kept = path.with_name(f".{path.stem}-statistics-{key.hexdigest()[:12]}.npy")
        if kept.is_file():
            mean, std = torch.from_numpy(np.load(kept))
            return mean, std
        mean, std = track.statistics()
        draft = kept.with_suffix(f".{os.getpid()}.npy")
        try:
            np.save(draft, torch.stack([mean, std]).numpy())
            draft.replace(kept)
        except OSError as error:  # read-only folder (PermissionError) or mount (EROFS), full disk
            with contextlib.suppress(OSError):
                draft.unlink()
            log.info("the feature statistics cannot be kept (%s): the next run computes them again", error)
        return mean, std

    # What the task asks for

    def facts(self) -> dict[str, Any]:
        """Plain values that a model is built from: widths, tokens per modality, training captions."""
        self.setup()
        return {
            "video_dim": self.video_dim,
            "audio_dim": self.audio_dim,
            "tokens": self.tokens,
            "train_texts": list(self.segments["train"].text),
        }

    def oracle(self) -> dict[str, str] | None:
        """ann_id -> what classifiers that are told where to look would say (test split).

        None for real data, and where a track is blank: the classifiers read both, so theirs is not this run's ceiling.
        """
        if self.mini is None or self.tracks != "both" or self.files.audio is None:
            return None
        self.setup()
        table = pd.read_csv(self.folder / mini_madv2.ORACLE, dtype=str)
        return dict(zip(table["ann_id"], table["text"], strict=True))

    def train_dataloader(self) -> DataLoader:
        return loader(self.segments["train"], self.batch_size, train=True, workers=self.num_workers)

    def val_dataloader(self) -> DataLoader:
        return loader(self.segments["val"], self.eval_batch_size, train=False, workers=self.num_workers)

    def test_dataloader(self) -> DataLoader:
        return loader(self.segments["test"], self.eval_batch_size, train=False, workers=self.num_workers)
