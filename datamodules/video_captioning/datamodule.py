"""Video captioning: MSR-VTT, other captioned videos (MSVD, VATEX, YouCook2, ...), or the mini set.

Batch contract (B clips, F = `frames`, S = `image_size`, G x D = the grid of features):

    frames      (B, F, 3, S, S) float32   (pixel / 255 - mean) / std, per channel; data.source=video or frames
    features    (B, G, D) float32         precomputed; data.source=features. A batch has one of the two
    caption     list of B str             training: one caption of the clip; evaluation: its first
    references  list of B list of str     all captions of the clip
    video       list of B str             ids; in evaluation every clip of the split once, in natural order

    data = Captions(root="data/msrvtt", ...)     # configs/data/msrvtt.yaml explains every keyword
    data.prepare_data()                        # finds or generates the files; DataError says what is missing
    data.facts()                               # {"frames", "image_size", "grid", "feature_dim", "train_texts", ...}

Frames are evenly spread over the clip, the same in training and evaluation. The order of training, the caption drawn
and the crop depend on (seed, epoch, clip) alone, for any number of workers; a run that stopped within an epoch goes on
with the batches it would have had.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from configs.knobs import Colour, ColourSpread, Count, Natural, Seed
from datamodules.contract import Data
from datamodules.errors import DataError, some
from datamodules.evaluated import Evaluated
from datamodules.formats.json_text import read_json
from datamodules.formats.video_files import Rotation
from datamodules.loading import Draws, loader, ranks
from datamodules.mini.store import settings_from
from datamodules.packed import packed_beside
from datamodules.streams import FolderStream, open_stream, stream_settings
from datamodules.video_captioning.annotations import Annotations, Clip
from datamodules.video_captioning.captions import joined, read_files
from datamodules.video_captioning.clips import Clips, Features, Input, Pixels, absent, feature_file
from datamodules.video_captioning.fields import fields_from
from datamodules.video_captioning.id_lists import read_ids
from datamodules.video_captioning.mini import generator as mini_msrvtt
from datamodules.video_captioning.options import check, files_of
from datamodules.video_captioning.rules import RULES
from datamodules.video_captioning.sources import FrameFolders, OwnVideo, VideoFiles
from datamodules.video_captioning.splits import (
    SPLITS,
    Chosen,
    by_lists,
    by_names_or_numbers,
    disjoint,
    in_files,
    misfits,
    without_defects,
)
from datamodules.video_captioning.undecodable import unreadable

log = logging.getLogger(__name__)

LONG = 100  # words; longer captions are named in the log


class Captions(Data):
    """Captioned videos as files, as extracted frames or as features, or the mini set in the same files."""

    rules = RULES
    weights_depend_on = ("image_size", "features.dim", "frames")

    def __init__(
        self,
        *,
        root: str,
        annotations: str | Sequence[str] | Mapping[str, str | None],
        source: Literal["video", "frames", "features"],
        batch_size: Count,
        eval_batch_size: Count,
        videos: str = "videos",
        video_file: str = "{video}.mp4",
        rotation: Rotation = "ignore",
        frame_folder: str = "frames",
        features: Mapping[str, Any] | None = None,
        fields: str | Mapping[str, Any] = "msrvtt",
        encoding: str = "utf-8",
        defects: Literal["stop", "drop"] = "stop",
        splits: Mapping[str, str | None] | None = None,
        lists: Mapping[str, str | None] | None = None,
        id_ranges: Mapping[str, Sequence[int]] | None = None,
        captions: Literal["all", "random"] = "all",
        frames: Count = 32,
        image_size: Count = 224,
        short_side: Count | None = None,
        mean: Colour = (0.485, 0.456, 0.406),
        std: ColourSpread = (0.229, 0.224, 0.225),
        corrupt: Literal["refuse", "skip"] = "refuse",
        missing: Literal["refuse", "skip"] = "refuse",
        num_workers: Natural = 0,
        seed: Seed = 0,
        name: str = "MSR-VTT",
        guide: str = "docs/datasets.md#msr-vtt",
        mini: dict[str, int | float] | None = None,
    ):
        """Paths are relative to `root`; `name` and `guide` are used in messages; `short_side` None is `image_size`.

        `mini`: sizes of the generated set (MiniSettings), None = the real data. Raises DataError: a number below its
        least value, an unknown option; a map of fields, a stream or mini settings that are unknown, missing or wrong.
        """
        super().__init__()
        self.check_arguments(locals())
        self.root, self.folder = Path(root), Path(root)
        self.annotation_files = files_of(annotations)
        self.source, self.videos, self.video_file, self.frame_folder = source, videos, video_file, frame_folder
        given = {"path": "features", "file": "{vid}.npy", **(features or {})}
        used = source == "features" or features is not None
        self.stream = stream_settings("features", given) if used else None
        self.fields, self.id_ranges, self.encoding, self.defects = fields_from(fields), id_ranges, encoding, defects
        self.lists = None if lists is None else dict(lists)
        self.rotation: Rotation = rotation
        self.split_names = {"train": "train", "val": "validate", "test": "test"} if splits is None else dict(splits)
        self.captions, self.frames, self.image_size = captions, frames, image_size
        self.short_side = image_size if short_side is None else short_side
        self.mean, self.std, self.corrupt, self.missing = list(mean), list(std), corrupt, missing
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.seed, self.name, self.guide = seed, name, guide
        self.mini = None if mini is None else settings_from(mini_msrvtt.MiniSettings, mini)
        self.clips: dict[str, Clips] = {}
        self.skipped = dict.fromkeys(SPLITS, 0)
        self._chosen: dict[str, list[Clip]] = {}
        self._said = Chosen({}, "")  # where the split comes from, and what was left out
        check(vars(self))

    # Files

    def prepare_data(self) -> None:
        """Generates the mini set unless it is there; for real data checks that every file is. Raises DataError.

        With corrupt=skip it also reads every clip once and keeps the list of those that cannot be read.
        """
        self._read()

    def _read(self) -> None:
        """Reads annotations and splits and finds the clips, once. DataError: anything missing or wrong."""
        if self._chosen:
            return
        if self.mini is not None:
            self.folder = mini_msrvtt.write_mini(self.root, self.mini, seed=self.seed)
        places = {"video": self.videos, "frames": self.frame_folder}
        place = self.stream.path if self.source == "features" else places[self.source]
        files = [name for names in self.annotation_files.values() for name in names]
        files += [name for name in (self.lists or {}).values() if name is not None]
        lacking = [name for name in files if not (self.folder / name).is_file()]
        path = self.folder / place
        if not (path.is_dir() or (self.source == "features" and packed_beside(path) is not None)):
            lacking.append(f"{place} (data.source={self.source})")
        self.need(lacking, self.folder)
        self._said = self.split_up(self.annotations())
        chosen = self._said.clips
        disjoint(chosen)
        self.input = self.open_input()
        chosen = {split: self._present(split, clips) for split, clips in chosen.items()}
        if isinstance(self.input, Features):
            self.input.grid = self._grid(chosen["train"])
        if self.corrupt == "skip" and self.mini is None:
            chosen = {split: self._readable(split, clips) for split, clips in chosen.items()}
        long = [clip.id for clips in chosen.values() for clip in clips if longest(clip) > LONG]
        if long:
            log.warning("%s: captions of more than %d words, of %d clips: %s", self.name, LONG, len(long), some(long))
        self._chosen = chosen
        sizes = ", ".join(f"{len(clips)} {split}" for split, clips in chosen.items())
        log.info("%s: %s clips; the split: %s", self.name, sizes, self._said.origin)

    def annotations(self) -> dict[str, list[Annotations]]:
        """Split -> what its annotation files hold; "all" for files of several splits. DataError as of read_files."""
        paths = [self.folder / name for names in self.annotation_files.values() for name in names]
        found = iter(read_files(paths, self.fields, encoding=self.encoding, defects=self.defects))
        return {split: [next(found) for _ in names] for split, names in self.annotation_files.items()}

    def split_up(self, files: Mapping[str, list[Annotations]]) -> Chosen:
        """The clips of each split, those without a caption left out and counted. Raises DataError as splits.py does."""
        clips = {split: joined(own) for split, own in files.items()}
        if "all" not in clips:
            chosen = Chosen({split: clips.get(split, []) for split in SPLITS}, in_files(self.annotation_files))
            chosen.notes += misfits(clips, self.split_names)
        elif self.lists is not None:
            lists = {split: name for split, name in self.lists.items() if name is not None}
            ids = {split: (name, read_ids(self.folder / name, self.encoding)) for split, name in lists.items()}
            chosen = by_lists(clips["all"], ids)
        else:
            chosen = by_names_or_numbers(clips["all"], self.split_names, self.id_ranges)
        return without_defects(chosen, [file for own in files.values() for file in own])

    def open_input(self) -> Input:
        """What reads the clips; a reader of features does not know yet how many rows each has."""
        if self.source == "features":
            return Features(open_stream(self.folder, "features", self.stream), 0)
        if self.source == "video":
            source = VideoFiles(self.folder / self.videos, self.video_file, self.rotation)
        else:
            source = FrameFolders(self.folder / self.frame_folder)
        return Pixels(source, self.frames, self.short_side, self.image_size, self.mean, self.std)

    def _grid(self, clips: list[Clip]) -> int:
        """Rows of the first clip's features; those of all others are compared with it when they are read."""
        stream, why = self.input.stream, None
        for clip in clips:
            try:
                return len(stream.read(feature_file(stream, clip), about=clip.id))
            except DataError as error:
                if self.corrupt == "refuse":
                    raise
                why = error
        raise DataError(f"{self.name}: none of the {len(clips)} train clips can be read: {why}")

    def _present(self, split: str, clips: list[Clip]) -> list[Clip]:
        """The clips whose file is there. DataError: some are missing (missing=refuse), or all are."""
        gone = absent(self.input, clips)
        if isinstance(self.input, Features):
            stream = self.input.stream
            what, where, hint = "features", stream.path, ""
            example = gone and feature_file(stream, gone[0])
        else:
            source = self.input.source
            what, where, example = source.noun, source.path, gone and source.file(gone[0]).name
            hint = source.hint(gone[0]) if gone and isinstance(source, VideoFiles) else ""
        if gone and (self.missing == "refuse" or len(gone) == len(clips)):
            raise DataError(
                f"{self.name}: no {what} of {len(gone)} of the {len(clips)} {split} clips: "
                f"{some(clip.id for clip in gone)}; looked for {example} in {where.resolve()}.{hint} {self.advice()} "
                "data.missing=skip leaves such clips out."
            )
        return self._without(split, clips, {clip.id for clip in gone}, f"have no {what}", f"clip without {what}")

    def _readable(self, split: str, clips: list[Clip]) -> list[Clip]:
        """The clips that can be read."""
        stamps = [self._stamp(clip) for clip in clips]
        bad = unreadable(clips, self.input, stamps, self.root)
        if clips and len(bad) == len(clips):
            raise DataError(
                f"{self.name}: none of the {len(clips)} {split} clips can be read: {next(iter(bad.values()))}"
            )
        return self._without(split, clips, bad.keys(), "cannot be read", "clip that cannot be read")

    def _stamp(self, clip: Clip) -> tuple:
        if not isinstance(self.input, Features):
            return self.input.source.stamp(clip)
        path = self.input.stream.path
        status = (path / feature_file(self.input.stream, clip) if path.is_dir() else path).stat()
        return status.st_size, status.st_mtime_ns

    def _without(self, split: str, clips: list[Clip], out, why: str, reason: str) -> list[Clip]:
        if out:
            left = [clip.id for clip in clips if clip.id in out]
            log.warning("%s: left out %d %s clips that %s: %s", self.name, len(left), split, why, some(left))
            self.skipped[split] += len(left)
            self._said.leave_out(split, reason, len(left))
        return [clip for clip in clips if clip.id not in out]

    # Splits

    def setup(self, stage: str | None = None) -> None:
        """Opens the splits, once, for any stage. Raises DataError as prepare_data does."""
        if self.clips:
            return
        self._read()
        self.clips = {
            split: Clips(clips, self.input, training=split == "train", captions=self.captions)
            for split, clips in self._chosen.items()
        }

    # What the task asks for

    def facts(self) -> dict[str, Any]:
        """Plain values that a model is built from.

        frames, image_size (side of the clips' pixels, for any source), grid (feature rows per clip; None if frames are
        read), feature_dim (None likewise), train_texts (all training captions), skipped (split -> clips left out).
        """
        self._read()
        features = isinstance(self.input, Features)
        return {
            "frames": self.frames,
            "image_size": self.image_size,
            "grid": self.input.grid if features else None,
            "feature_dim": self.stream.dim if features else None,
            "train_texts": [text for clip in self._chosen["train"] for text in clip.captions],
            "skipped": dict(self.skipped),
        }

    def evaluated(self) -> Evaluated:
        self._read()
        sizes = {split: len(clips) for split, clips in self._chosen.items()}
        return Evaluated("clips", sizes, self._said.origin, self._said.left_out, tuple(self._said.notes))

    def oracle(self) -> dict[str, str] | None:
        """video -> the answer of a classifier that is told where to look (mini, test split); None for real data."""
        if self.mini is None:
            return None
        self._read()
        return read_json(self.folder / mini_msrvtt.ORACLE)

    def example(self, path: str | Path, span: tuple[float, float] | None = None) -> dict[str, Any]:
        """The batch, without captions, of one clip that need not be in the data: a video file, or a folder of frames.

        span: a part of a video file, seconds from its start. A video is turned as its header asks for.
        If the data are features, `path` is an .npy file of them; generated data also make them from a video file.
        Raises DataError: no such file, not readable, or not what this data is made of; a span of something else.
        """
        path = Path(path)
        if not path.exists():
            raise DataError(f"{path}: no such file.")
        place = path.resolve()
        clip = Clip(place.name, place.name, (), span=span)
        source = FrameFolders(place.parent) if path.is_dir() else OwnVideo(path)
        if span is not None and (path.is_dir() or path.suffix == ".npy"):
            raise DataError(f"{path}: only a video file has times, of which a part can be read.")
        sizes = (self.frames, self.short_side, self.image_size)
        if self.source == "features" and self.mini is not None:  # whose features are of whole clips
            sizes = (self.mini.frames, self.mini.size, self.mini.size)
        pixels = Pixels(source, *sizes, self.mean, self.std)
        if self.source != "features":
            return {"frames": pixels.batch([pixels.read(clip, None)]), "video": [path.name]}
        if path.suffix == ".npy":
            stream = FolderStream("features", self.stream, path.parent)
            values = torch.from_numpy(stream.read(path.name, about=path.name))
        elif self.mini is not None:
            frames = pixels.read(clip, None).permute(0, 2, 3, 1).numpy()  # (F, S, S, 3)
            folder = mini_msrvtt.write_mini(self.root, self.mini, seed=self.seed)
            values = torch.from_numpy(mini_msrvtt.features_of(folder, frames)).float()
        else:
            raise DataError(
                f"{path}: this data is features of clips (data.source=features). Give the clip's .npy file, which "
                "scripts/extract_features.py writes with the backbone that made the others."
            )
        return {"features": values[None], "video": [path.name]}

    def train_dataloader(self) -> DataLoader:
        """Order, captions and crops depend on torch's seed and the epoch alone, for any number of workers."""
        draws = Draws(self.clips["train"], torch.initial_seed(), *ranks())
        return loader(self.clips["train"], self.batch_size, workers=self.num_workers, draws=draws)

    def val_dataloader(self) -> DataLoader:
        return loader(self.clips["val"], self.eval_batch_size, workers=self.num_workers)

    def test_dataloader(self) -> DataLoader:
        return loader(self.clips["test"], self.eval_batch_size, workers=self.num_workers)


def longest(clip: Clip) -> int:
    return max(len(caption.split()) for caption in clip.captions)
