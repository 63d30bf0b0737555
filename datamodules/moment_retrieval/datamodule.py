"""QVHighlights: moments and highlights of a video that a sentence asks for, as features of clips and of words.

Batch contract (B queries, T = the batch's most clips, N = its most tokens):

    video         (B, T, video_dim) float32   each stream's rows at length 1, one stream beside the other, then where
                                              the clip begins and ends, in [0, 1] (tef); zeros where video_keep is False
    video_keep    (B, T) bool                 True = real clip
    text          (B, N, text_dim) float32    tokens at length 1; zeros where text_keep is False
    text_keep     (B, N) bool
    spans         list of B (n_i, 2) float32  centre and width in [0, 1] of clips x clip_length; n_i in 0..max_windows
    saliency      (B, T) float32              the raters' scores summed (0..12); zeros at irrelevant clips and padding
    saliency_pos  (B, 2) int64                clips that should score higher than
    saliency_neg  (B, 2) int64                these, pair by pair
    annotation    list of B dict              rows of the file: qid, query, vid, duration, relevant_windows, ...

The three saliency keys are absent if there is no saliency (data.saliency=none). Sound is one more video stream.
Charades-STA, TACoS, ActivityNet Captions and Clotho-Moment, as jsonl files of this kind, are read by the same class. So
are TVSum and YouTube Highlights: they have no windows (n_i is 0), and saliency is the raters' mean label of every clip.

    data = Moments(root="data/qvhighlights", ...)   # configs/data/qvhighlights.yaml explains every keyword
    data.prepare_data()                                  # finds or generates the files; DataError says what is missing
    data.facts()                                         # {"video_dim", "text_dim", "clips", "tokens", ...}
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from configs.knobs import Count, Natural, NotNegative, Positive, Seed
from datamodules.contract import Data
from datamodules.errors import DataError, some
from datamodules.evaluated import Evaluated, added
from datamodules.formats.json_text import parse_json
from datamodules.formats.text import read_lines
from datamodules.loading import Draws, loader, ranks
from datamodules.mini.store import settings_from
from datamodules.moment_retrieval.annotations import Form
from datamodules.moment_retrieval.dataset import Features, Lengths, MomentDataset
from datamodules.moment_retrieval.labels import LabelSettings
from datamodules.moment_retrieval.mini import generator as mini_qvhighlights
from datamodules.moment_retrieval.rates import Video, check_videos
from datamodules.moment_retrieval.splits import read_splits
from datamodules.packed import packed_beside
from datamodules.streams import open_stream, stream_settings, usual_pattern

log = logging.getLogger(__name__)

SMALL = 512 * 2**20  # bytes of features that in_memory=auto holds at most, all splits together
TEXT = {"path": "clip_text_features", "key": "last_hidden_state", "file": "qid{qid}.npz"}


class Moments(Data):
    """Annotation files and feature streams of one data set, or the mini set in the same files."""

    places = (*Data.places, "maker")
    weights_depend_on = ("clip_length", "tef", "text_stream.dim", "video_streams.*.dim")

    def __init__(
        self,
        *,
        root: str,
        train_annotations: str,
        val_annotations: str,
        test_annotations: str,
        video_streams: dict[str, dict[str, Any] | None],
        text_stream: dict[str, Any],
        batch_size: Count,
        eval_batch_size: Count,
        clip_length: Positive = 2.0,
        max_clips: Count = 75,
        max_tokens: Count = 32,
        max_windows: Count = 5,
        length_slack: Natural = 1,
        window_slack: NotNegative = 0.0,
        tef: bool = True,
        saliency: Literal["annotated", "windows", "labels", "none"] = "annotated",
        labels: LabelSettings | None = None,
        domain: str | None = None,
        defects: Literal["stop", "clip", "drop"] = "stop",
        unmatched: Literal["skip", "stop"] = "skip",
        in_memory: bool | Literal["auto"] = "auto",
        num_workers: Natural = 0,
        seed: Seed = 0,
        name: str = "QVHighlights",
        guide: str = "docs/datasets.md#qvhighlights",
        maker: str | None = None,
        mini: dict[str, int | float] | None = None,
    ):
        """Paths are relative to `root`; a stream that is null is left out; `name`, `guide` and `maker` are used in
        messages.

        `labels`: LabelSettings as a plain dict, for saliency="labels". `domain`: only queries of this domain.
        `mini`: sizes of the generated set (MiniSettings), None = the real data. Raises DataError: a number below its
        least value, an unknown option; settings of a stream or of the mini set that are unknown, missing or wrong.
        """
        super().__init__()
        self.check_arguments(locals())
        self.root, self.folder = Path(root), Path(root)
        self.files = {"train": train_annotations, "val": val_annotations, "test": test_annotations}
        self.clip_length, self.max_clips, self.max_tokens = clip_length, max_clips, max_tokens
        self.max_windows, self.length_slack, self.window_slack = max_windows, length_slack, window_slack
        self.tef, self.saliency, self.in_memory = tef, saliency, in_memory
        self.labels = LabelSettings(**(labels or {})) if saliency == "labels" else None
        self.domain, self.defects, self.unmatched = domain, defects, unmatched
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.seed, self.name, self.guide, self.maker = seed, name, guide, maker
        self.mini = None if mini is None else settings_from(mini_qvhighlights.MiniSettings, mini)
        self.streams = {key: stream_settings(key, given) for key, given in video_streams.items() if given is not None}
        self.text = stream_settings("text_stream", {**TEXT, **text_stream})
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.moments: dict[str, MomentDataset] = {}
        self._left_out: dict[str, dict[str, int]] = {}
        self._check()

    def _check(self) -> None:
        if not self.streams:
            raise DataError("data.video_streams has no stream; at least one is needed.")
        if self.labels is not None and self.labels.lowest >= self.labels.highest:
            given = f"{self.labels.lowest:g} and {self.labels.highest:g}"
            raise DataError(f"data.labels: lowest and highest are {given}; expected lowest < highest.")

    # Files

    def prepare_data(self) -> None:
        """Generates the mini set unless it is there; for real data checks that every file is. Raises DataError."""
        self._read()

    def _read(self) -> None:
        """Annotations and streams, once. DataError: anything missing, any defect of an annotation."""
        if self.rows:
            return
        if self.mini is not None:
            self.folder = mini_qvhighlights.write_mini(self.root, self.mini, seed=self.seed)
        files = dict.fromkeys(self.files.values())
        self.need([name for name in files if not (self.folder / name).is_file()], self.folder)
        paths = {stream.path: None for stream in (*self.streams.values(), self.text)}
        self.need([path for path in paths if not self._has(path)], self.folder)
        options = {"saliency": self.saliency, "unmatched": self.unmatched, "left_out": self._left_out}
        rows = read_splits(self.folder, self.files, self.form(), **options)
        every = [row for split in rows.values() for row in split]
        self.video_sources = [open_stream(self.folder, *item) for item in self.streams.items()]
        self.text_source = open_stream(self.folder, "text_stream", self.text)
        for stream in (*self.video_sources, self.text_source):
            self._need_features(stream, every)
        videos = self.videos(every)
        check_videos(videos, clip_length=self.clip_length, slack=self.length_slack, title=f"{self.name}: ")
        self.rows = rows

    def form(self) -> Form:
        """What the annotation files hold, and what is done about their defects."""
        return Form(
            self.clip_length,
            saliency=self.saliency == "annotated",
            labels=None if self.labels is None else (self.labels.lowest, self.labels.highest),
            slack=self.window_slack,
            defects=self.defects,
            domain=self.domain,
        )

    def videos(self, rows: list[dict[str, Any]]) -> list[Video]:
        """Each video of these rows, with the rows of its whole feature files, from their headers.

        What cannot be read is not among them: the reader says what is wrong with it.
        """
        found = {}
        for row in rows:
            if row["vid"] not in found:
                counts = {stream.name: _rows_of(stream, row) for stream in self.video_sources}
                labels = len(row["label"]) if self.labels is not None and "label" in row else None
                clips = row["duration"] / self.clip_length if labels is None else labels
                length = f"the video has {row['duration']:g} s" if labels is None else ""
                counts = {name: count for name, count in counts.items() if count}
                found[row["vid"]] = Video(f"vid {row['vid']}", counts, clips, length)
        return list(found.values())

    def _has(self, path: str) -> bool:
        place = self.folder / path
        return place.is_dir() or packed_beside(place) is not None

    def _need_features(self, stream, rows) -> None:
        files = {stream.file_of(row): row for row in rows}
        if missing := stream.missing(files):
            of = "qid" if "{qid}" in stream.pattern else "vid"
            raise DataError(
                f"{self.name}: stream {stream.name} has no features of {len(missing)} of {len(files)} {of}s: "
                f"{some(files[file][of] for file in missing)}; looked for {missing[0]} in {stream.path.resolve()}. "
                f"{self._named_otherwise(stream, files[missing[0]])}{self.advice()}"
            )

    def _named_otherwise(self, stream, row: dict[str, Any]) -> str:
        """The setting that finds the file of a row under another usual name; "" if there is none."""
        if (found := usual_pattern(stream, row)) is None:
            return ""
        where = "text_stream" if stream is self.text_source else f"video_streams.{stream.name}"
        return f"{found.format(**row)} is there: 'data.{where}.file=\"{found}\"' reads files of this name. "

    # Splits

    def setup(self, stage: str | None = None) -> None:
        """Opens the splits, once, for any stage; reads the features into memory if they are held there."""
        if self.moments:
            return
        self._read()
        lengths = Lengths(
            self.max_clips, self.max_tokens, self.max_windows, self.clip_length, self.length_slack, self.labels
        )
        hold = self._hold()
        features = Features(self.video_sources, self.text_source, lengths, tef=self.tef, hold=hold)
        for split, rows in self.rows.items():
            labelled = ("relevant_windows" if self.labels is None else "label") in rows[0]
            if not labelled:
                log.warning("%s has no windows: predictions of the %s split cannot be scored", self.files[split], split)
            if hold:
                features.hold(rows)
            self.moments[split] = MomentDataset(rows, features, lengths, self.saliency if labelled else "none")

    def _hold(self) -> bool:
        if self.in_memory != "auto":
            return self.in_memory
        rows = [row for split in self.rows.values() for row in split]
        sources = (*self.video_sources, self.text_source)
        return sum(stream.size(map(stream.file_of, rows)) for stream in sources) <= SMALL

    # What the task asks for

    def facts(self) -> dict[str, Any]:
        """Plain values that a model is built from: widths (that of a clip includes its place), lengths, seconds."""
        highlights = {} if self.labels is None else {"highlights": dataclasses.asdict(self.labels)}
        return {
            "video_dim": sum(stream.dim for stream in self.streams.values()) + 2 * self.tef,
            "text_dim": self.text.dim,
            "clips": self.max_clips,
            "tokens": self.max_tokens,
            "clip_length": self.clip_length,
            "duration": self.max_clips * self.clip_length,
            "saliency": self.saliency != "none",
            "streams": {name: stream.dim for name, stream in self.streams.items()},
            "tef": self.tef,
            **highlights,
        }

    def evaluated(self) -> Evaluated:
        self._read()
        sizes = {split: len(rows) for split, rows in self.rows.items()}
        origin = f"a file for each split ({', '.join(f'{split}: {name}' for split, name in self.files.items())})"
        notes = [] if self.domain is None else [f"only queries of data.domain={self.domain}"]
        if self.files["val"] == self.files["test"]:
            notes.append("validation and test are one file: what is chosen by validation is chosen on the test")
        return Evaluated("queries", sizes, origin, added(self._left_out), tuple(notes))

    def annotations(self, split: Literal["train", "val", "test"]) -> list[dict[str, Any]]:
        """The rows of a split's annotation file, in its order, unchanged."""
        self._read()
        return self.rows[split]

    def oracle(self) -> dict[int, dict[str, Any]] | None:
        """qid -> what classifiers that are told where the shots are would predict (test split); None for real data.

        Each is {"pred_relevant_windows": [[start, end, score], ...], "pred_saliency_scores": [one per clip]}. It is
        also None if a stream is left out: the classifiers read both, so theirs is not this run's ceiling.
        """
        if self.mini is None or not set(mini_qvhighlights.STREAMS) <= {stream.path for stream in self.streams.values()}:
            return None
        self._read()
        path = self.folder / mini_qvhighlights.ORACLE
        rows = [parse_json(line, f"{path}, line {number}: not JSON") for number, line in read_lines(path)]
        return {row.pop("qid"): row for row in rows}

    def train_dataloader(self) -> DataLoader:
        """Order and random labels depend on torch's seed and the epoch alone, for any number of workers."""
        draws = Draws(self.moments["train"], torch.initial_seed(), *ranks())
        return loader(self.moments["train"], self.batch_size, workers=self.num_workers, draws=draws)

    def val_dataloader(self) -> DataLoader:
        return loader(self.moments["val"], self.eval_batch_size, workers=self.num_workers)

    def test_dataloader(self) -> DataLoader:
        return loader(self.moments["test"], self.eval_batch_size, workers=self.num_workers)

    def transfer_batch_to_device(
        self, batch: dict[str, Any], device: torch.device, dataloader_idx: int
    ) -> dict[str, Any]:
        """The annotations stay as they are: Lightning would search their lists for tensors, 7 ms per batch of 32."""
        tensors = {key: value for key, value in batch.items() if key != "annotation"}
        moved = super().transfer_batch_to_device(tensors, device, dataloader_idx)
        return {key: batch[key] if key == "annotation" else moved[key] for key in batch}


def _rows_of(stream, row: dict[str, Any]) -> int | None:
    """Rows in a video's whole file; None if it cannot be read."""
    try:
        return stream.rows(stream.file_of(row), about=f"qid {row['qid']}, vid {row['vid']}")
    except DataError:  # the reader says what is wrong, with the row that needs it
        return None
