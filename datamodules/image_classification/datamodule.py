"""Image classification: ImageNet-1K, any image folder, Parquet shards, or the mini set.

Batch contract (B images, S = `image_size`):

    image   (B, 3, S, S) float32    (pixel / 255 - mean) / std, per channel
    label   (B,) int64              0..classes - 1
    name    list of B str           unique in its split; evaluation order is sorted by it. Image folder: path relative
                                    to the split's folder (the train folder for held-out validation images);
                                    Parquet: "<file>:<row>"

    data = Images(root="data/imagenet1k", ...)     # configs/data/imagenet1k.yaml explains every keyword
    data.prepare_data()                                # finds or generates the files; DataError says what is missing
    data.facts()                                       # classes, image_size, class_names, train_counts, skipped

Mixup and CutMix are applied by the task. The official validation images are the TEST split; validation images are held
out of the training images, so that no choice is made on the images that are reported.

With the same seed of seed_everything, the order of the training images and every augmentation repeat bit for bit, for
any `num_workers`; both depend on (seed, epoch) alone, so a run that stopped within an epoch goes on with the batches it
would have had. Another number of ranks deals the same images differently. Held-out images and the fraction depend on
`data.seed` and the images' names, not on the run's seed.
"""

import csv
import logging
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from configs.knobs import Colour, ColourSpread, Count, Interval, Natural, NotNegative, PositiveShare, Probability, Seed
from datamodules.contract import Data
from datamodules.errors import DataError, some
from datamodules.evaluated import Evaluated, added
from datamodules.formats.guard import reading
from datamodules.image_classification.class_index import Classes, agree, known, read_class_index
from datamodules.image_classification.folder import ImageFolder
from datamodules.image_classification.linear import linear_answers
from datamodules.image_classification.mini import generator as mini_imagenet1k
from datamodules.image_classification.options import check
from datamodules.image_classification.pictures import Pictures
from datamodules.image_classification.shards import GroupShuffle, ImageShards, apart, parquet, shards
from datamodules.image_classification.subsets import class_orders, hold_out, take_fraction
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
        val_split: str | Natural,
        test: str,
        image_size: Count,
        batch_size: Count,
        eval_batch_size: Count,
        format: Literal["folder", "parquet", "auto"] = "folder",
        class_index: str | None = None,
        fraction: PositiveShare = 1.0,
        corrupt: Literal["refuse", "skip"] = "refuse",
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
        self.train, self.val_split, self.test = train, val_split, test
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
        self._ignored: dict[str, dict[str, int]] = {}  # split -> reason -> files that are not images
        check(vars(self))

    # Files

    def prepare_data(self) -> None:
        """Generates the mini set unless it is there; for real data checks that it is. Raises DataError.

        Raises ImportError if shards are to be read without pyarrow. With corrupt=skip it also decodes every image once
        and keeps the list of those that cannot be decoded.
        """
        if self.mini is not None:
            self.folder = self._mini_folder()
            return
        names = [self.train, self.test] + ([self.val_split] if isinstance(self.val_split, str) else [])
        missing = [self._pattern(name) or name for name in names if not self._is_there(name)]
        if self.class_index is not None and not (self.root / self.class_index).is_file():
            missing.append(self.class_index)
        what = {"folder": "folders", "parquet": "shards", "auto": f"or a folder {self.train} of images"}[self.format]
        self.need(missing, self.root, note=f" (data.format={self.format}: {what})")
        if self._pattern(self.train):
            parquet()  # ImportError before anything is built
        if isinstance(self.val_split, str) and self.root / self.val_split == self.root / self.test:
            log.warning("validation and test images are the same (%s): choices are made on the test images", self.test)
        if self.corrupt == "skip":
            for name in names:
                undecodable(self._open(name), self.root)

    def _mini_folder(self) -> Path:
        return mini_imagenet1k.write_mini(self.root, self.mini, seed=self.seed)

    def _pattern(self, name: str) -> str | None:
        """The pattern of the shards that `name` stands for; None for a folder of images.

        format=auto: folders if there is a folder data.train, else shards <name>-*.parquet at any depth, as on the hub.
        """
        if self.mini is not None or self.format == "folder":
            return None
        if self.format == "parquet":
            return name
        return None if (self.root / self.train).is_dir() else f"**/{name}-*.parquet"

    def _is_there(self, name: str) -> bool:
        pattern = self._pattern(name)
        return (self.root / name).is_dir() if pattern is None else bool(shards(self.root, pattern))

    def _open(self, name: str) -> ImageFolder | ImageShards:
        if (pattern := self._pattern(name)) is not None:
            return ImageShards(self.folder, pattern, cached=self.shuffle_groups)
        source = ImageFolder(self.folder / name)
        if source.ignored:
            log.warning(
                "%s: left out %d files that are not images: %s", source.path, len(source.ignored), some(source.ignored)
            )
        return source

    # Splits

    def setup(self, stage: str | None = None) -> None:
        """Lists the images, numbers the classes, makes the splits; once, for any stage. Raises DataError."""
        if self.pictures:
            return
        if self.mini is not None:
            self.folder = self._mini_folder()  # another process may have generated it
        train, test = self._open(self.train), self._open(self.test)
        apart(train, test, "data.test")
        self.classes = self._number_classes(train)
        if len(self.classes) < 2:
            raise DataError(f"{self._place(self.train)} has one class, {self.classes.folders[0]}; there is no choice.")
        rows, labels = self._usable("train", train, self.train)
        orders = [rows[order] for order in class_orders(labels[rows], train.names[rows], len(self.classes), self.seed)]
        if empty := [name for name, order in zip(self.classes.folders, orders, strict=True) if not len(order)]:
            raise DataError(f"{self._place(self.train)}: no usable training image of class {some(empty)}.")
        if isinstance(self.val_split, int):
            held, orders = hold_out(orders, self.val_split)
            val, val_rows, val_labels = train, np.sort(np.concatenate(held)), labels
        else:
            val = self._open(self.val_split)
            apart(train, val, "data.val_split")
            val_rows, val_labels = self._usable("val", val, self.val_split)
        train_rows = np.sort(np.concatenate(take_fraction(orders, self.fraction)))
        test_rows, test_labels = self._usable("test", test, self.test)
        look, augmentation = plain(self.image_size, self.crop_pct, self.interpolation), self._augmentation()
        flip = self.hflip if self.augment == "shift_flip" else 0.0
        chance = {"shift": self.shift, "flip": flip, "chance": augmentation is not None}
        scale = (self.mean, self.std)
        self.pictures = {
            "train": Pictures(train, train_rows, labels, augmentation or look, *scale, **chance),
            "val": Pictures(val, val_rows, val_labels, look, *scale),
            "test": Pictures(test, test_rows, test_labels, look, *scale),
        }
        self._hold()

    def _place(self, name: str) -> str:
        return str(self.folder / name)

    def _number_classes(self, train: ImageFolder | ImageShards) -> Classes:
        """The classes, from the class index file or from the training images. Raises DataError if they disagree."""
        index = None if self.class_index is None else self.folder / self.class_index
        classes = None if index is None else read_class_index(index)
        if train.by_folder and classes is not None:
            agree(index, classes, self._place(self.train), train.folders)
        if classes is None and train.folders is not None:
            classes = Classes(tuple(train.folders), tuple(train.folders))
        if classes is None:
            classes = Classes(tuple(str(label) for label in range(int(train.labels.max()) + 1)), None)
        return classes

    def _usable(self, split: str, source: ImageFolder | ImageShards, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the images that can be used, and the class of every image. Raises DataError: unknown classes."""
        place = self._place(name)
        if source.by_folder:
            number = {folder: label for label, folder in enumerate(self.classes.folders)}
            known([f for f in source.folders if f not in number], place, self._place(self.train), number)
            labels = np.array([number[folder] for folder in source.folders])[source.labels]
        else:
            labels = source.labels
            if (most := int(labels.max())) >= len(self.classes):
                raise DataError(f"{place} has label {most}; the classes are 0 to {len(self.classes) - 1}.")
        if source.ignored:
            self._ignored[split] = {"file that is not an image": len(source.ignored)}
        rows = np.arange(len(source))
        bad = undecodable(source, self.root) if self.corrupt == "skip" and self.mini is None else {}
        if bad:
            log.warning("%s: left out %d images that cannot be decoded: %s", place, len(bad), some(bad))
            rows = rows[~np.isin(source.names, np.array([os.fsencode(name) for name in bad]))]
        self.skipped[split] = len(bad)
        return rows, labels

    def _augmentation(self):
        """The training transform, or None if training uses the transform of evaluation."""
        if self.augment != "timm":
            return None
        return augmented(
            self.image_size,
            self.mean,
            self.std,
            scale=tuple(self.scale),
            ratio=tuple(self.ratio),
            hflip=self.hflip,
            vflip=self.vflip,
            color_jitter=self.color_jitter,
            auto_augment=self.auto_augment,
            interpolation=self.train_interpolation,
            re_prob=self.reprob,
            re_mode=self.remode,
            re_count=self.recount,
        )

    def _hold(self) -> None:
        chosen = [self.pictures[split] for split in self.pictures if split != "train" or self.augment != "timm"]
        need = sum(len(pictures) for pictures in chosen) * 3 * self.image_size**2
        if need <= SMALL if self.in_memory == "auto" else self.in_memory:
            for pictures in chosen:
                pictures.hold()

    # What the task asks for

    def facts(self) -> dict[str, Any]:
        """Plain values: classes, image_size, class_names (or None), train_counts (images of each class), skipped.

        skipped: split -> number of images that were left out since they cannot be decoded (corrupt=skip). If the
        validation images are held out of the training images, theirs count under "train".
        """
        self.setup()
        return {
            "classes": len(self.classes),
            "image_size": self.image_size,
            "class_names": None if self.classes.names is None else list(self.classes.names),
            "train_counts": torch.bincount(self.pictures["train"].labels, minlength=len(self.classes)).tolist(),
            "skipped": dict(self.skipped),
        }

    def evaluated(self) -> Evaluated:
        self.setup()
        sizes = {split: len(pictures) for split, pictures in self.pictures.items()}
        held = isinstance(self.val_split, int)
        val = f"{self.val_split} images of {self.train}" if held else self.val_split
        skipped = {split: {"image that cannot be decoded": count} for split, count in self.skipped.items()}
        notes = ["validation and test are the same images: what is chosen by validation is chosen on the test"]
        same = not held and self.root / self.val_split == self.root / self.test
        origin = f"folders or shards (train: {self.train}, val: {val}, test: {self.test})"
        return Evaluated("images", sizes, origin, added(skipped, self._ignored), tuple(notes * same))

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
        if self.mini is None:
            return None
        self.setup()
        train, test = self.pictures["train"], self.pictures["test"]
        answers = linear_answers(train.look(test.transform), test, len(self.classes))
        return float((answers == test.labels).double().mean())

    def train_dataloader(self) -> DataLoader:
        """Order and augmentation depend on torch's seed and the epoch alone. Parquet: shuffled by row groups."""
        pictures, seed = self.pictures["train"], torch.initial_seed()
        draws = Draws(pictures, seed, *ranks())
        if pictures.held is None and pictures.source.groups is not None:
            draws = GroupShuffle(pictures.source.groups[pictures.rows], self.shuffle_groups, seed, *ranks())
        return loader(pictures, self.batch_size, workers=self.num_workers, draws=draws)

    def val_dataloader(self) -> DataLoader:
        return loader(self.pictures["val"], self.eval_batch_size, workers=self.num_workers)

    def test_dataloader(self) -> DataLoader:
        return loader(self.pictures["test"], self.eval_batch_size, workers=self.num_workers)
