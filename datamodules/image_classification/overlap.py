"""Whether images are in two splits: the same folder or file under two names, or images of the same content.

    refuse_overlap(train, test, "data.test")     # DataError, or a warning for a single image

Contents are compared by a hash of the whole file, for a sample of the images that are tested. Of the training images
only those of the same number of bytes are read, so that most are not; of many (above 65,536) only those of the same
file name, and of shards none: whole shards are compared by their size, their first and their last bytes.
"""

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DataError, some

log = logging.getLogger(__name__)

SAMPLE = 256  # images that are looked for in the training images
SMALL = 65_536  # images of a split in which any image is looked for
MOST = 2**30  # bytes of candidates that are read
ENDS = 2**20  # bytes at each end of a shard that are compared
FEW = 0.01  # share of the sample that may be in both: public data sets have a few images twice
ALLOWED = "data.overlap=allow goes on all the same."


def same_places(train: Any, other: Any) -> list[Path]:
    """The files or class folders of `other` that `train` has, too, however they are called, and copies of shards."""
    trained = {path.resolve() for path in train.places()}
    both = [path for path in other.places() if path.resolve() in trained]
    if both or train.kind == "folder" or other.kind == "folder":
        return both
    sizes = {path.stat().st_size for path in other.files}
    copies = {_ends(path) for path in train.files if path.stat().st_size in sizes}
    return [path for path in other.files if copies and _ends(path) in copies]


def _ends(path: Path) -> tuple[int, bytes]:
    """Size of a file, and a hash of its first and last bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(ENDS)
        file.seek(max(0, size - ENDS))
        return size, _digest(head + file.read(ENDS))


def refuse_overlap(train: Any, other: Any, setting: str) -> None:
    """DataError if more than a few images of `other` are training images; a warning for a few.

    train, other: sources of images (folder.py, shards.py, tars.py).
    """
    if train is other:
        return
    if both := same_places(train, other):
        what = "class folders" if other.kind == "folder" else "shards"
        raise DataError(f"{setting} matches {what} of data.train: {some([str(path) for path in both])}. {ALLOWED}")
    pairs, compared = same_images(train, other)
    if not pairs:
        return
    one, two = pairs[0]
    words = f"{len(pairs)} of the {compared} images of {setting} that were compared are training images, too"
    words = f"{words}, such as {other.where(one)}, which is {train.where(two)}"
    if len(pairs) > FEW * compared:
        raise DataError(f"{words}: it would be tested on what was trained on. {ALLOWED}")
    log.warning("%s", words)


def same_images(first: Any, second: Any) -> tuple[list[tuple[int, int]], int]:
    """Pairs (position in `second`, position in `first`) of images of one content, and how many were compared.

    An image that cannot be read is none of them: whoever decodes it says more.
    """
    asked = np.unique(np.linspace(0, len(second) - 1, min(SAMPLE, len(second))).astype(int)).tolist()
    wanted: dict[bytes, int] = {}
    sizes = set()
    for index in asked:
        if (data := _bytes(second, index)) is not None:
            wanted[_digest(data)] = index
            sizes.add(len(data))
    pairs: dict[int, int] = {}
    for index in _candidates(first, second, asked, sizes):
        data = _bytes(first, index)
        if data is not None and (there := wanted.get(_digest(data))) is not None:
            pairs.setdefault(there, index)
    return sorted(pairs.items()), len(asked)


def _candidates(first: Any, second: Any, asked: list[int], sizes: set[int]) -> list[int]:
    """Images of `first` that may be one of those asked for, at most MOST bytes of them."""
    if len(first) <= SMALL:
        of_first = first.sizes()
        found = np.flatnonzero(np.isin(of_first, list(sizes)))
        step = max(1, -(-int(of_first[found].sum()) // MOST))
        return found[::step].tolist()
    if first.kind != "folder" or second.kind != "folder":
        return []  # rows of shards have no names, and all of them would have to be read
    names = {_base(second, index) for index in asked}
    return [index for index in range(len(first)) if _base(first, index) in names]


def _base(source: Any, index: int) -> bytes:
    return os.path.basename(source.names[index])  # noqa: PTH119 (a million names)


def _bytes(source: Any, index: int) -> bytes | None:
    try:
        return source.read(index)
    except DataError:
        return None


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def warn_of_overlap(others: Mapping[str, Any]) -> None:
    """A warning if validation and test have images of one content: choices are then made on the test images."""
    if len(others) < 2 or same_places(*others.values()):
        return  # the same folder was named
    test, val = others["test"], others["val"]
    pairs, compared = same_images(test, val)
    if len(pairs) > FEW * compared:
        log.warning(
            "%d of the %d validation images that were compared are test images, too, such as %s, which is %s: choices "
            "are made on the test images",
            len(pairs), compared, val.where(pairs[0][0]), test.where(pairs[0][1]),
        )  # fmt: skip


class Part:
    """Some images of a source: `rows` are their positions in it."""

    def __init__(self, source: Any, rows: np.ndarray):
        self.source, self.rows, self.kind = source, rows, source.kind

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> np.ndarray:
        return self.source.names[self.rows]

    def sizes(self) -> np.ndarray:
        return self.source.sizes()[self.rows]

    def read(self, index: int) -> bytes:
        return self.source.read(int(self.rows[index]))

    def where(self, index: int) -> str:
        return self.source.where(int(self.rows[index]))


def warn_of_twins(splits: Mapping[str, Any]) -> None:
    """A warning if images that were held out of the training images have the content of some that were not.

    splits: "train" and the splits that were held out; each has its `source` and the positions in it, `rows`.
    """
    train = Part(splits["train"].source, splits["train"].rows)
    for name in sorted(set(splits) - {"train"}):
        held = Part(splits[name].source, splits[name].rows)
        pairs, compared = same_images(train, held)
        if len(pairs) > FEW * compared:
            log.warning(
                "%d of the %d images held out for %s that were compared have a copy in training, such as %s, which is "
                "%s: scores on them are too good; remove the copies",
                len(pairs), compared, name, held.where(pairs[0][0]), train.where(pairs[0][1]),
            )  # fmt: skip
