"""Image classification: ImageNet-1K, any image folder, Parquet shards, or the mini set.

Batch contract (B images, S = `image_size`):

    image   (B, 3, S, S) float32    (pixel / 255 - mean) / std, per channel
    label   (B,) int64              0..classes - 1
    name    list of B str           unique in its split; evaluation order is sorted by it. Image folder: path relative
                                    to the split's folder (the train folder for held-out validation images);
                                    Parquet: "<file>:<row>"

    data = Images(root="data/imagenet1k", ...)     # configs/data/imagenet1k.yaml explains every keyword
    data.prepare_data()                                # finds or generates the files; DataError says what is missing
    data.facts()                                       # classes, image_size, class_names, train_counts, ...

Mixup and CutMix are applied by the task. The official validation images are the TEST split; validation images are held
out of the training images, so that no choice is made on the images that are reported.

With the same seed of seed_everything, the order of the training images and every augmentation repeat bit for bit, for
any `num_workers`; both depend on (seed, epoch) alone, so a run that stopped within an epoch goes on with the batches it
would have had. Another number of ranks deals the same images differently. Held-out images and the fraction depend on
`data.seed` and the images' names, not on the run's seed.
"""

import csv
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from configs.knobs import (
    Colour,
    ColourSpread,
    Count,
    Inside,
    Interval,
    Natural,
    NotNegative,
    PositiveShare,
    Probability,
    Seed,
)
from datamodules.contract import Data
from datamodules.evaluated import Evaluated
from datamodules.formats.guard import reading
from datamodules.image_classification.layout import AUTO, Layout, for_test, found
from datamodules.image_classification.linear import linear_answers
from datamodules.image_classification.matching import classes_of
from datamodules.image_classification.mini import generator as mini_imagenet1k
from datamodules.image_classification.options import HeldOut, check
from datamodules.image_classification.orders import GroupShuffle, Repeated
from datamodules.image_classification.overlap import refuse_overlap, warn_of_overlap, warn_of_twins
from datamodules.image_classification.pictures import Pictures
from datamodules.image_classification.sources import Source, is_there, need_library, opened
from datamodules.image_classification.splits import Split, Usable, by_name, in_numbers_of, number_classes, shared_out
from datamodules.image_classification.transforms import augmented, plain
from datamodules.image_classification.undecodable import undecodable
from datamodules.loading import Draws, loader, ranks
from datamodules.mini.store import settings_from

log = logging.getLogger(__name__)

SMALL = 512 * 2**20  # bytes of decoded pixels that in_memory=auto holds at most, all splits together


class Images(Data):
    """ImageNet-1K, another labelled set of images in the same layout, or the mini set."""

    places = (*Data.places, "guide", "maker")
    weights_depend_on = ("image_size",)
    guide = "docs/datasets.md#imagenet-1k"

    def __init__(
        self,
        *,
        root: str,
        train: str,
        val_split: str | HeldOut,
        test: str | Inside,
        image_size: Count,
        batch_size: Count,
        eval_batch_size: Count,
        format: Literal["folder", "parquet", "webdataset", "auto"] = "folder",
        image_column: str | None = None,
        label_column: str | None = None,
        class_index: str | None = None,
        empty_classes: Literal["refuse", "allow"] = "refuse",
        overlap: Literal["refuse", "allow"] = "refuse",
        fraction: PositiveShare = 1.0,
        corrupt: Literal["refuse", "skip"] = "refuse",
        white: Count = 65535,
        mean: Colour = (0.485, 0.456, 0.406),
        std: ColourSpread = (0.229, 0.224, 0.225),
        crop_pct: PositiveShare = 0.875,
        interpolation: Literal["bicubic", "bilinear", "nearest"] = "bicubic",
        augment: Literal["timm", "shift", "shift_flip", "none"] = "timm",
        shift: Natural = 0,
        scale: Interval = (0.08, 1.0),
        ratio: Interval = (3 / 4, 4 / 3),
        hflip: Probability = 0.5,
        vflip: Probability = 0.0,
        color_jitter: NotNegative | None = 0.3,
        auto_augment: str | None = "rand-m9-mstd0.5-inc1",
        train_interpolation: Literal["bicubic", "bilinear", "nearest", "random"] = "bicubic",
        reprob: Probability = 0.25,
        remode: Literal["const", "rand", "pixel"] = "pixel",
        recount: Count = 1,
        repeats: Count = 1,
        in_memory: bool | Literal["auto"] = "auto",
        shuffle_groups: Count = 16,
        num_workers: Natural = 0,
        seed: Seed = 0,
        mini: dict[str, int | float] | None = None,
        name: str = "ImageNet-1K",
        guide: str = guide,
        maker: str | None = None,
    ):
        """Paths are relative to `root`; `name`, `guide` and `maker` are used in messages; `mini`: sizes of the
        generated set (MiniSettings), None = the real data.

        Raises DataError: a number out of its range, an unknown option; mini settings that are unknown, missing or of a
        wrong type.
        """
        super().__init__()
        self.check_arguments(locals())
        self.name, self.root, self.format, self.class_index = name, Path(root), format, class_index
        self.guide, self.maker = guide, maker
        self.image_column, self.label_column, self.white = image_column, label_column, white
        self.empty_classes, self.overlap, self.repeats = empty_classes, overlap, repeats
        self.train, self.val_split, self.test = train, val_split, test
        if train == AUTO:  # images of a user's own, at every scale
            self.generated = "experiment=imagenet1k_baseline scale=mini trains on generated images"
        self.image_size, self.fraction, self.corrupt, self.in_memory = image_size, fraction, corrupt, in_memory
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.mean, self.std, self.crop_pct, self.interpolation = list(mean), list(std), crop_pct, interpolation
        self.augment, self.shift, self.scale, self.ratio = augment, shift, list(scale), list(ratio)
        self.hflip, self.vflip, self.color_jitter, self.auto_augment = hflip, vflip, color_jitter, auto_augment
        self.train_interpolation, self.reprob, self.remode, self.recount = train_interpolation, reprob, remode, recount
        self.shuffle_groups, self.seed = shuffle_groups, seed
        self.mini = None if mini is None else settings_from(mini_imagenet1k.MiniSettings, mini)
        self.folder = self.root
        self.pictures: dict[str, Pictures] = {}
        self.skipped = {"train": 0, "val": 0, "test": 0}
        self.trained: Mapping[str, Any] | None = None
        self._left_out: dict[str, dict[str, int]] = {}  # split -> reason -> how many
        check(vars(self))

    # Files

    def only_test(self, facts: Mapping[str, Any]) -> None:
        """Its labels are then numbers of the classes that `facts` name, and no training image is needed."""
        self.trained = facts

    def prepare_data(self) -> None:
        """Generates the mini set unless it is there; for real data checks that it is. Raises DataError.

        Raises ImportError if shards are to be read without pyarrow, or archives without webdataset. With corrupt=skip
        it also decodes every image once and keeps the list of those that cannot be decoded.
        """
        if self.mini is not None:
            self.folder = self._mini_folder()
            return
        layout = self.layout()
        missing = [name for name in layout.names() if not is_there(self.root, layout.kind, name)]
        if self.class_index is not None and not (self.root / self.class_index).is_file():
            missing.append(self.class_index)
        kinds = {"folder": "folders", "parquet": "shards", "webdataset": "archives"}
        what = kinds.get(self.format, f"or a folder {self.train.replace(AUTO, 'train')} of images")
        self.need(missing, self.root, note=f" (data.format={self.format}: {what})")
        need_library(layout.kind)  # ImportError before anything is built
        val, test = layout.val_split, layout.test
        if (
            isinstance(val, str)
            and isinstance(test, str)
            and (self.root / val).resolve() == (self.root / test).resolve()
        ):
            log.warning("validation and test images are the same (%s): choices are made on the test images", test)
        if self.corrupt == "skip":
            for name in layout.names():
                undecodable(self._open(layout, name), self.root, self.white)

    def layout(self) -> Layout:
        """Where the images of each split are. In a test of trained weights only the test has a name."""
        if self.mini is not None:
            return Layout("folder", self.train, self.val_split, self.test)
        if self.trained is not None and (alone := for_test(self.root, self.format, self.test)) is not None:
            return alone
        return found(self.root, self.format, self.train, self.val_split, self.test)

    def _mini_folder(self) -> Path:
        return mini_imagenet1k.write_mini(self.root, self.mini, seed=self.seed)

    def _open(self, layout: Layout, name: str, trained_on: bool = False) -> Source:
        columns, empty = (self.image_column, self.label_column), self.empty_classes == "allow"
        options = {"cached": self.shuffle_groups, "columns": columns, "may_be_empty": empty or not trained_on}
        return opened(self.folder, layout.kind, name, **options)

    # Splits

    def setup(self, stage: str | None = None) -> None:
        """Lists the images, numbers the classes, makes the splits; once, for any stage. Raises DataError."""
        if self.pictures:
            return
        if self.mini is not None:
            self.folder = self._mini_folder()  # another process may have generated it
        skip = self.corrupt == "skip" and self.mini is None
        usable = Usable(partial(undecodable, keep=self.root, white=self.white) if skip else None)
        index = None if self.class_index is None else self.folder / self.class_index
        layout = self.layout()
        if self.trained is not None and isinstance(layout.test, str):
            splits = self._test_alone(self._open(layout, layout.test), index, usable)
        else:
            splits = self._all(layout, index, usable)
            if self.trained is not None:  # the test is held out of the training images
                self.classes, source = classes_of(self.trained), splits["test"].source
                splits = {"test": splits["test"]._replace(labels=by_name(self.classes, source, index))}
        self.skipped, self._left_out = usable.skipped, usable.left_out
        self.pictures = {
            name: self._pictures(name, splits[name]) for name in ("train", "val", "test") if name in splits
        }
        self._hold()

    def _test_alone(self, test: Source, index: Path | None, usable: Usable) -> dict[str, Split]:
        self.classes = classes_of(self.trained)
        labels = by_name(self.classes, test, index)
        return {"test": Split(test, usable.rows("test", test), labels)}

    def _all(self, layout: Layout, index: Path | None, usable: Usable) -> dict[str, Split]:
        train = self._open(layout, layout.train, trained_on=True)
        may_be_empty = self.empty_classes == "allow"
        self.classes = number_classes(train, index, may_be_empty)
        labels = in_numbers_of(self.classes, train, train)
        held = {"test": layout.test, "val": layout.val_split}
        others = {name: self._open(layout, place) for name, place in held.items() if isinstance(place, str)}
        compare = self.overlap == "refuse" and self.mini is None
        if compare:
            for name, other in others.items():
                refuse_overlap(train, other, "data.test" if name == "test" else "data.val_split")
            warn_of_overlap(others)
        numbers = {name: None if isinstance(place, str) else place for name, place in held.items()}
        rules = {"seed": self.seed, "may_be_empty": may_be_empty, "may_be_few": self.format == "auto"}
        usable_train = Split(train, usable.rows("train", train), labels)
        splits = shared_out(self.classes, usable_train, **numbers, fraction=self.fraction, **rules)
        if compare:
            warn_of_twins(splits)
        for name, other in others.items():
            of_other = in_numbers_of(self.classes, other, train)
            splits[name] = Split(other, usable.rows(name, other), of_other)
        return splits

    def _pictures(self, name: str, split: Split) -> Pictures:
        look, scale = plain(self.image_size, self.crop_pct, self.interpolation), (self.mean, self.std)
        if name != "train":
            return Pictures(*split, look, *scale, white=self.white)
        augmentation = self._augmentation()
        flip = self.hflip if self.augment == "shift_flip" else 0.0
        chance = {"shift": self.shift, "flip": flip, "chance": augmentation is not None}
        return Pictures(*split, augmentation or look, *scale, **chance, white=self.white)

    def _augmentation(self):
        """The training transform, or None if training uses the transform of evaluation."""
        if self.augment != "timm":
            return None
        alike = {name: getattr(self, name) for name in ("hflip", "vflip", "color_jitter", "auto_augment")}
        erasing = {"re_prob": self.reprob, "re_mode": self.remode, "re_count": self.recount}
        areas = {"scale": tuple(self.scale), "ratio": tuple(self.ratio), "interpolation": self.train_interpolation}
        return augmented(self.image_size, self.mean, self.std, **areas, **alike, **erasing)

    def _hold(self) -> None:
        chosen = [self.pictures[split] for split in self.pictures if split != "train" or self.augment != "timm"]
        need = sum(len(pictures) for pictures in chosen) * 3 * self.image_size**2
        if need <= SMALL if self.in_memory == "auto" else self.in_memory:
            for pictures in chosen:
                pictures.hold()

    # What the task asks for

    def facts(self) -> dict[str, Any]:
        """Plain values: classes, image_size, class_names and class_folders (or None), train_counts (images of each
        class), skipped.

        In a test of trained weights they are those of the weights, but for `skipped`.
        skipped: split -> number of images that were left out since they cannot be decoded (corrupt=skip). If the
        validation images are held out of the training images, theirs count under "train".
        """
        self.setup()
        if self.trained is not None:
            return {**self.trained, "skipped": dict(self.skipped)}
        named = self.classes.names is not None
        return {
            "classes": len(self.classes),
            "image_size": self.image_size,
            "class_names": list(self.classes.names) if named else None,
            "class_folders": list(self.classes.folders) if named else None,
            "train_counts": torch.bincount(self.pictures["train"].labels, minlength=len(self.classes)).tolist(),
            "skipped": dict(self.skipped),
        }

    def evaluated(self) -> Evaluated:
        self.setup()
        sizes = {split: len(pictures) for split, pictures in self.pictures.items()}
        layout = self.layout()
        return Evaluated("images", sizes, layout.origin(), self._left_out, layout.notes(self.root))

    def tested_classes(self) -> torch.Tensor:
        """The numbers of the classes that test images have, sorted, int64."""
        self.setup()
        return self.pictures["test"].labels.unique()

    def oracle(self) -> dict[str, int] | None:
        """name -> the answer of a classifier that is told where to look (mini, test split). None for real data."""
        if self.mini is None:
            return None
        self.setup()
        path = self.folder / mini_imagenet1k.ORACLE
        with reading(f"{path}: cannot be read"), path.open(newline="") as file:
            return {row["name"]: int(row["label"]) for row in csv.DictReader(file)}

    def linear_floor(self) -> float | None:
        """Test accuracy, 0..1, of a linear model on the pixels, trained on this run's training images.

        None for real data. Takes a few seconds and draws nothing from the run's random numbers.
        """
        if self.mini is None or self.trained is not None:
            return None
        self.setup()
        train, test = self.pictures["train"], self.pictures["test"]
        answers = linear_answers(train.look(test.transform), test, len(self.classes))
        return float((answers == test.labels).double().mean())

    def train_dataloader(self) -> DataLoader:
        """Order and augmentation depend on torch's seed and the epoch alone. Parquet: shuffled by row groups."""
        pictures, seed = self.pictures["train"], torch.initial_seed()
        draws = Draws(pictures, seed, *ranks())
        if self.repeats > 1:
            draws = Repeated(pictures, self.repeats, seed, *ranks())
        elif pictures.held is None and pictures.source.groups is not None:
            draws = GroupShuffle(pictures.source.groups[pictures.rows], self.shuffle_groups, seed, *ranks())
        return loader(pictures, self.batch_size, workers=self.num_workers, draws=draws)

    def val_dataloader(self) -> DataLoader:
        return loader(self.pictures["val"], self.eval_batch_size, workers=self.num_workers)

    def test_dataloader(self) -> DataLoader:
        return loader(self.pictures["test"], self.eval_batch_size, workers=self.num_workers)
