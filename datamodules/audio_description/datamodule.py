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
    previous     list of B list of str         only with data.previous: up to previous_count descriptions before it
    subtitles    list of B list of str         only with data.subtitles: what was said before it

    data = Descriptions(root="data/madv2", ...)       # configs/data/madv2.yaml explains every keyword
    data.prepare_data()                        # finds or generates the files; DataError says what is missing
    data.facts()                               # {"video_dim", "audio_dim", "tokens", "train_texts", "recipe", ...}

`previous` are descriptions of the same movie with an earlier start, oldest first. With previous=predicted the training
batches have the annotated ones; evaluation batches have empty lists, for the model to fill in with its own
descriptions, in an order in which all that precedes a batch's segments is in earlier batches (recurrent.py).
`subtitles` are the lines heard in the subtitle_seconds before the start, in order (context.py).
"""

import logging
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader

from configs.knobs import Count, Natural, Positive, Seed
from datamodules.audio_description.annotations import LeftOut, read_annotations
from datamodules.audio_description.context import Texts, context
from datamodules.audio_description.mini import generator as mini_madv2
from datamodules.audio_description.mini.subtitles import write_mini_subtitles
from datamodules.audio_description.npy import open_features
from datamodules.audio_description.recipe import Recipe
from datamodules.audio_description.recurrent import recurrent_loader
from datamodules.audio_description.rows import MovieFeatures
from datamodules.audio_description.rules import RULES
from datamodules.audio_description.sampling import sample_rows, segment_rows
from datamodules.audio_description.segments import Segments
from datamodules.audio_description.splits import Described, read_splits
from datamodules.audio_description.statistics import training_statistics
from datamodules.audio_description.subtitles import read_subtitles
from datamodules.audio_description.titles import warn_of_shared_titles
from datamodules.audio_description.tracks import Track
from datamodules.contract import Data
from datamodules.errors import DataError, some
from datamodules.evaluated import Evaluated, added
from datamodules.formats.decoding import check_encoding
from datamodules.formats.guard import reading
from datamodules.loading import Draws, loader, ranks
from datamodules.mini.store import settings_from

log = logging.getLogger(__name__)

SMALL = 512 * 2**20  # bytes of features that in_memory=auto holds at most, all splits together
AUDIO_SLACK = 1.0  # seconds by which a movie's two tracks may differ; the longer one is cut
NEIGHBOURS = 16  # sentences of one movie that R@k/16 compares


class Descriptions(Data):
    """MAD-v2 for training and MAD-eval for testing, or the mini set in the same files."""

    places = (*Data.places, "speech_dir", "esc10_dir")
    rules = RULES
    weights_depend_on = ("tokens", "video_dim", "audio_dim")

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
        video_dim: Count,
        audio_dim: Count,
        batch_size: Count,
        eval_batch_size: Count,
        fps: Positive = 5.0,
        tokens: Count = 25,
        sampling: Literal["segment_pad", "window", "linspace"] = "segment_pad",
        normalise: Literal["none", "l2", "standard"] = "none",
        tracks: Literal["both", "video", "audio"] = "both",
        previous: Literal["none", "ground_truth", "predicted"] = "none",
        previous_count: Count = 3,
        subtitles: str | None = None,
        subtitle_seconds: Positive = 30.0,
        val_annotations: str | None = None,
        encoding: str = "utf-8",
        in_memory: bool | Literal["auto"] = "auto",
        num_workers: Natural = 0,
        seed: Seed = 0,
        sounds: Literal["tones", "speech", "esc10"] | None = None,
        speech_dir: str | None = None,
        esc10_dir: str | None = None,
        mini: dict[str, int | float] | None = None,
        name: str = "MAD-v2",
        guide: str = "docs/datasets.md#mad-v2",
        maker: str | None = None,
    ):
        """File names are relative to `root`; `name`, `guide`, `maker` (a command) are used in messages; `mini`: sizes
        of the generated set (MiniSettings), None = the real data.

        Raises DataError: a number below its least value, an unknown option; mini settings that are unknown, missing or
        of a wrong type.
        """
        super().__init__()
        self.check_arguments(locals())
        self.name, self.guide, self.maker, self.root = name, guide, maker, Path(root)
        self.files = mini_madv2.Files(video_features, audio_features, train_annotations, eval_annotations, split)
        self.splits = {"train": train_split, "val": val_split, "test": test_split}
        self.video_dim, self.audio_dim = video_dim, audio_dim
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.fps, self.tokens, self.sampling, self.normalise = fps, tokens, sampling, normalise
        self.tracks, self.in_memory = tracks, in_memory
        self.previous, self.previous_count = previous, previous_count
        self.subtitles, self.subtitle_seconds, self.val_annotations = subtitles, subtitle_seconds, val_annotations
        self.encoding = encoding
        self.seed, self.sounds, self.recordings = seed, sounds, {"speech_dir": speech_dir, "esc10_dir": esc10_dir}
        self.mini = None if mini is None else settings_from(mini_madv2.MiniSettings, mini)
        self.folder = self.root
        self.segments: dict[str, Segments] = {}
        self._left_out: dict[str, dict[str, int]] = {}
        self._check()

    def _check(self) -> None:
        check_encoding(self.encoding)
        named = isinstance(self.splits["val"], str)
        if self.val_annotations is not None and (self.mini is not None or not named):
            why = f"data.val_split={self.splits['val']} is a number" if not named else "generated data has none"
            raise DataError(
                f"data.val_annotations={self.val_annotations}: a file of its own for the movies of a named list (of "
                f"MAD-v1: val_split=V1-VAL); {why}."
            )

    # Files

    def prepare_data(self) -> None:
        """Generates the mini set unless it is there; for real data checks that every file is. Raises DataError."""
        if self.mini is not None:
            self.folder = self._mini_folder()
            return
        names = [*vars(self.files).values(), self.val_annotations, self.subtitles]
        self.need([name for name in names if name is not None and not (self.root / name).exists()], self.root)

    def _mini_folder(self) -> Path:
        return mini_madv2.write_mini(
            self.root, self.mini, self.files, sounds=self.sounds or "tones", seed=self.seed, **self.recordings
        )

    # Splits

    def setup(self, stage: str | None = None) -> None:
        """Reads annotations, splits and movie lengths, once, for any stage. Raises DataError."""
        if self.segments:
            return
        if self.mini is not None:
            self.folder = self._mini_folder()  # another process may have generated it
        level = logging.WARNING if self.mini is None else logging.INFO  # the mini set's bad rows are there on purpose
        names = [self.files.train, self.files.eval, self.val_annotations]
        gone: dict[str, LeftOut] = {name: [] for name in names if name}
        options = {"level": level, "encoding": self.encoding}
        tables = {name: read_annotations(self.folder / name, left_out=out, **options) for name, out in gone.items()}
        described = [name and Described(name, set(tables[name]["movie"])) for name in names]
        self._left_out = {}
        movies = read_splits(self.folder / self.files.split, self.splits, *described, left_out=self._left_out)
        warn_of_shared_titles(self.folder, movies)
        used = [movie for split in movies.values() for movie in split]
        video, audio = self.tracks_of(self.folder)
        lengths = self._lengths(video, audio, used)
        hold = self._hold(lengths)
        lines = self._lines(used, level)
        sources = {"train": names[:1], "val": names[2:] if self.val_annotations else names[:2], "test": names[1:2]}
        for split, wanted in movies.items():
            rows = [row for name in dict.fromkeys(sources[split]) for row in gone[name]]
            counts = Counter(reason for movie, reason in rows if movie in set(wanted))
            self._left_out = added(self._left_out, {split: counts})
            parts = [tables[name] for name in dict.fromkeys(sources[split])]
            table = pd.concat([part[part["movie"].isin(wanted)] for part in parts])
            self.segments[split] = self._segments(split, table, lengths, video, audio, hold, lines)
        self._normalise()
        self._warn_of_short_movies()

    # Segments

    def tracks_of(self, folder: Path) -> tuple[MovieFeatures, MovieFeatures | None]:
        """The picture and the sound features in a folder, not opened yet; None for the sound if there is no track."""
        audio = None if self.files.audio is None else open_features(folder / self.files.audio, self.audio_dim)
        return open_features(folder / self.files.video, self.video_dim), audio

    def _lines(self, movies: list[str], level: int) -> pd.DataFrame | None:
        if self.subtitles is None:
            return None
        return read_subtitles(self.subtitles_path(), movies, level, encoding=self.encoding)

    def subtitles_path(self) -> Path:
        """The path of the subtitles; those of the mini set are generated. Only for data with subtitles."""
        if self.mini is None:
            return self.folder / self.subtitles
        described = [self.files.train, self.files.eval]
        return write_mini_subtitles(self.root, self.folder, described, self.subtitles)

    def _context(self, training: bool, table: pd.DataFrame, lines: pd.DataFrame | None) -> dict[str, Texts]:
        wanted = "ground_truth" if training and self.previous == "predicted" else self.previous
        return context(table, wanted, self.previous_count, lines, self.subtitle_seconds)

    def _lengths(self, video: MovieFeatures, audio: MovieFeatures | None, movies: list[str]) -> dict[str, int]:
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

    def _segments(self, split: str, table: pd.DataFrame, lengths, video, audio, hold: bool, lines) -> Segments:
        """The split's segments in (movie, start) order, without those that begin after their movie's features end.

        DataError: an ann_id twice, in two files; none of the segments left to train on or to test.
        """
        if len(twice := table["ann_id"][table["ann_id"].duplicated()]):
            raise DataError(f"{split}: ann_id not unique among its annotation files: {some(twice.unique())}.")
        table = table.sort_values(["movie", "start"], kind="stable", ignore_index=True)
        spans = [
            segment_rows(start, end, self.fps, lengths[movie])
            for movie, start, end in zip(table["movie"], table["start"], table["end"], strict=True)
        ]
        inside = np.array([first for first, _ in spans]) < table["movie"].map(lengths).to_numpy()
        after = int((~inside).sum())
        self._left_out = added(self._left_out, {split: {"segment after the features of its movie": after}})
        if not inside.all():
            log.warning(
                "%s: begins after the features of its movie end (left out) in %d rows: %s",
                split, after, some(table["ann_id"][~inside]),
            )  # fmt: skip
        if split != "val" and not inside.any():
            raise DataError(f"{split}: all {len(table)} segments begin after the features of their movies end.")
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
        return Segments(table, *pair, self._context(split == "train", table, lines))

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
            mean, std = training_statistics(tracks[0], self.folder / features, (self.sampling, self.tokens, self.fps))
            for track in tracks:
                track.scale(mean, std)

    # What the task asks for

    def facts(self) -> dict[str, Any]:
        """Plain values that a model is built from: widths, tokens per modality, training captions, context."""
        self.setup()
        return {
            "video_dim": self.video_dim,
            "audio_dim": self.audio_dim,
            "tokens": self.tokens,
            "train_texts": list(self.segments["train"].text),
            "previous": self.previous,
            "previous_count": self.previous_count,
            "subtitles": self.subtitles is not None,
            "recipe": Recipe.of(self).plain(),
        }

    def evaluated(self) -> Evaluated:
        self.setup()
        sizes = {split: len(segments) for split, segments in self.segments.items()}
        lists = ", ".join(f"{split}: {name}" for split, name in self.splits.items() if isinstance(name, str))
        held = f"; val: {self.splits['val']} movies of {self.splits['train']}" * isinstance(self.splits["val"], int)
        return Evaluated("segments", sizes, f"lists of {self.files.split} ({lists}{held})", self._left_out)

    def oracle(self) -> dict[str, str] | None:
        """ann_id -> what classifiers that are told where to look would say (test split).

        None for real data, and if a track is blank: the classifiers read both, so theirs is not this run's ceiling.
        """
        if self.mini is None or self.tracks != "both" or self.files.audio is None:
            return None
        self.setup()
        path = self.folder / mini_madv2.ORACLE
        with reading(f"{path}: cannot be read"):
            table = pd.read_csv(path, dtype=str)
            return dict(zip(table["ann_id"], table["text"], strict=True))

    def train_dataloader(self) -> DataLoader:
        """The order depends on torch's seed and the epoch alone."""
        draws = Draws(self.segments["train"], torch.initial_seed(), *ranks())
        return loader(self.segments["train"], self.batch_size, workers=self.num_workers, draws=draws)

    def val_dataloader(self) -> DataLoader:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> DataLoader:
        segments, options = self.segments[split], {"workers": self.num_workers}
        if self.previous == "predicted":
            return recurrent_loader(segments, segments.movie, self.eval_batch_size, **options)
        return loader(segments, self.eval_batch_size, **options)
