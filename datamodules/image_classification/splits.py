"""Which images belong to training, validation and test, and the number of the class of each.

    classes = number_classes(train, index=None, may_be_empty=False)
    shared_out(classes, Split(train, rows, labels), test=None, val=5000, ...)     # {"val": Split, "train": Split}

In a test of trained weights the classes are those of the weights, and images are numbered by the names of their classes
(`by_name`); only the test images are read.
"""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from datamodules.errors import DataError, some
from datamodules.evaluated import added
from datamodules.image_classification.class_index import Classes, agree, known, read_class_index
from datamodules.image_classification.matching import matched, numbers_of
from datamodules.image_classification.sources import Source
from datamodules.image_classification.subsets import Orders, class_orders, hold_out, take_fraction

log = logging.getLogger(__name__)


class Split(NamedTuple):
    """rows (n,): positions in `source`. labels (N,): the class number of every image of `source`."""

    source: Source
    rows: np.ndarray
    labels: np.ndarray


def number_classes(train: Source, index: Path | None, may_be_empty: bool) -> Classes:
    """The classes of training, from the class index file or from the images. Raises DataError if they disagree."""
    classes = None if index is None else read_class_index(index, train.folders if train.by_folder else None)
    if train.by_folder and classes is not None:
        agree(index, classes, str(train.path), train.folders, may_be_empty)
    if classes is None and train.folders is not None:
        classes = Classes(tuple(train.folders), tuple(train.folders))
    if classes is None:
        most = int(train.labels.max())
        if most >= max(10_000, 100 * len(train)):
            raise DataError(
                f"{train.path} has label {most}, and {len(train)} images: labels are numbers of classes, from 0 on."
            )
        classes = Classes(tuple(str(label) for label in range(most + 1)), None)
    if len(classes) < 2:
        raise DataError(f"{train.path} has one class, {classes.folders[0]}; there is no choice.")
    return classes


def in_numbers_of(classes: Classes, source: Source, train: Source) -> np.ndarray:
    """The class number of every image of a source, (N,), among the classes of training. DataError: unknown classes.

    Shards whose metadata names the classes are compared by name with the training shards; without names their labels
    are numbers of `classes`.
    """
    if source.by_folder:
        number = {folder: label for label, folder in enumerate(classes.folders)}
        used = [source.folders[label] for label in np.unique(source.labels)]
        known([folder for folder in used if folder not in number], str(source.path), str(train.path), number)
        return np.array([number.get(folder, -1) for folder in source.folders])[source.labels]
    if source.folders is not None and train.folders is not None and source.folders != train.folders:
        return by_name(Classes(tuple(train.folders), tuple(train.folders)), source, None)
    if train.by_folder:  # and the source is not
        raise DataError(
            f"{source.path} has numbers for labels, and {train.path} has names for its classes, such as "
            f"{some(train.folders, 3)}: which number is which is not known. Name the classes there, too."
        )
    if (most := int(source.labels.max())) >= len(classes):
        raise DataError(f"{source.path} has label {most}; the classes are 0 to {len(classes) - 1}.")
    return source.labels


def by_name(trained: Classes, source: Source, index: Path | None) -> np.ndarray:
    """The number of every image's class, (N,), among the classes that weights were trained on. Raises DataError."""
    listed = None if index is None else read_class_index(index, source.folders if source.by_folder else None)
    if source.by_folder:
        names = dict(zip(listed.folders, listed.names, strict=True)) if listed else {}
        found = Classes(tuple(source.folders), tuple(names.get(folder, folder) for folder in source.folders))
    elif listed is not None or source.folders is not None:
        told = None if source.folders is None else Classes(tuple(source.folders), tuple(source.folders))
        found = told if listed is None or (told and None not in matched(told, trained)) else listed
    else:
        found = Classes(tuple(str(label) for label in range(int(source.labels.max()) + 1)), None)
    used = np.unique(source.labels)
    if used[-1] >= len(found):
        raise DataError(f"{source.path} has label {used[-1]}; the classes named there are 0 to {len(found) - 1}.")
    return numbers_of(found, trained, str(source.path), used.tolist())[source.labels]


class Usable:
    """Leaves out the images that cannot be decoded, if they are to be skipped; counts them by split."""

    def __init__(self, undecodable: Callable[[Source], Mapping[str, str]] | None):
        self.undecodable, self.skipped = undecodable, {"train": 0, "val": 0, "test": 0}
        self.left_out: dict[str, dict[str, int]] = {}  # split -> reason -> how many, for the run's record

    def rows(self, split: str, source: Source) -> np.ndarray:
        bad = self.undecodable(source) if self.undecodable else {}
        self.skipped[split] = len(bad)
        reasons = {"image that cannot be decoded": len(bad), "file that is not an image": len(source.ignored)}
        self.left_out |= added({split: reasons})
        if not bad:
            return np.arange(len(source))
        if len(bad) == len(source):
            raise DataError(f"{source.path}: none of its {len(bad)} images can be decoded: {some(bad.items())}.")
        log.warning("%s: left out %d images that cannot be decoded: %s", source.path, len(bad), some(bad))
        return np.flatnonzero(~np.isin(source.names, np.array([os.fsencode(name) for name in bad])))


def shared_out(
    classes: Classes,
    train: Split,
    *,
    test: float | None,
    val: float | None,
    fraction: float,
    seed: int,
    may_be_empty: bool,
    may_be_few: bool,
) -> dict[str, Split]:
    """Training images shared out among the splits that are held out of them: test, then val, then a fraction is kept.

    test, val: None if their images come from elsewhere; below 1 a share, else a number of images. may_be_few: of too
    few images a tenth is held out instead, which is said. Raises DataError: a class without an image.
    """
    source, rows, labels = train
    orders = [rows[order] for order in class_orders(labels[rows], source.names[rows], len(classes), seed)]
    if empty := [name for name, order in zip(classes.folders, orders, strict=True) if not len(order)]:
        words = f"{source.path}: no usable training image of class {some(empty)}"
        if not may_be_empty:
            raise DataError(f"{words}. data.empty_classes=allow trains without: the classes keep their numbers.")
        log.warning("%s; the model has an output for each of them and never sees one", words)
    found = {}
    for name, held in (("test", test), ("val", val)):
        if held is not None:
            setting = "data.test" if name == "test" else "data.val_split"
            taken, orders = hold_out(orders, how_many(held, orders, setting, may_be_few), setting)
            found[name] = Split(source, np.sort(np.concatenate(taken)), labels)
    found["train"] = Split(source, np.sort(np.concatenate(take_fraction(orders, fraction))), labels)
    return found


def how_many(held: float, orders: Orders, setting: str, may_be_few: bool) -> int:
    """Images that a setting holds out: a share is rounded half up, to at least one."""
    total, most = sum(map(len, orders)), sum(max(0, len(order) - 1) for order in orders)
    if 0 < held < 1:
        return max(1, int(held * total + 0.5))
    if held > most and may_be_few:
        log.warning(
            "%s=%d is more than the %d training images can spare: a tenth of them is held out", setting, held, total
        )
        return max(1, int(0.1 * total + 0.5))
    return int(held)
