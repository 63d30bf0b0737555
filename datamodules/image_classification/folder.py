"""A split as an image folder: one folder per class, image files in it.

split = ImageFolder(Path("data/imagenet1k/val"))
split.folders        # ["n01440764", ...], sorted
split.names[0]       # b"n01440764/ILSVRC2012_val_00000293.JPEG"
split.read(0)        # the file's bytes
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datamodules.errors import DataError, some
from datamodules.formats.guard import reading

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
FLAT = (
    "holds images but no class folders. The official validation archive is flat: its images have to be moved into one "
    "folder per class first (docs/datasets.md#imagenet-1k)."
)


class ImageFolder:
    """The images below the class folders of `path`, at any depth, sorted by name.

    names    (N,) bytes: path relative to `path`, with forward slashes. They are bytes in one array, since a list of a
             million strings would be copied into every data worker
    labels   (N,) int64: index into `folders`
    folders  class folders, sorted
    ignored  files that are not images (by suffix), relative to `path`

    Raises DataError: no class folders, class folders without an image, a folder that is found twice through a link.
    """

    by_folder = True  # classes are known by their folders
    groups = None  # files can be read in any order

    def __init__(self, path: Path):
        self.path = path
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        self.folders = [entry.name for entry in found if entry.is_dir() and not entry.name.startswith(".")]
        self.ignored = [entry.name for entry in found if not entry.is_dir()]
        if not self.folders:
            loose = any(name.lower().endswith(SUFFIXES) for name in self.ignored)
            raise DataError(f"{path} {FLAT if loose else 'holds no class folders.'}")
        names, labels, empty = [], [], []
        self._seen: dict[str, str] = {}  # folder without links -> as it was found
        for label, folder in enumerate(self.folders):
            inside = sorted(self._images(folder))
            names += inside
            labels.append(np.full(len(inside), label))
            if not inside:
                empty.append(folder)
        if empty:
            raise DataError(
                f"{path}: no image in {some(empty)} ({len(empty)} of {len(self.folders)} class folders). Images end in "
                f"{', '.join(SUFFIXES)}; fill the folders or remove them."
            )
        self.names, self.labels = np.array(names, dtype=bytes), np.concatenate(labels)
        order = np.argsort(self.names, kind="stable")
        self.names, self.labels = self.names[order], self.labels[order]

    def _images(self, folder: str):
        for place, _, files in os.walk(self.path / folder, followlinks=True):
            inside = Path(place).relative_to(self.path).as_posix()
            if (other := self._seen.setdefault(os.path.realpath(place), inside)) != inside:
                raise DataError(
                    f"{place} is the same folder as {other}: one is a link, and its images would count twice."
                )
            for file in files:
                name = f"{inside}/{file}"
                if file.lower().endswith(SUFFIXES) and not file.startswith("."):
                    yield os.fsencode(name)
                else:
                    self.ignored.append(name)

    def __len__(self) -> int:
        return len(self.names)

    def where(self, index: int) -> str:
        """The name of the image in messages."""
        return str(self.path / os.fsdecode(self.names[index]))

    def read(self, index: int) -> bytes:
        """The file's bytes. Raises DataError if it cannot be read."""
        path = self.where(index)
        with reading(f"{path} cannot be read"), open(path, "rb") as file:  # noqa: PTH123 (a Path costs more than a read)
            return file.read()

    def stamps(self) -> Iterator[tuple[int, int]]:
        """Size and time of change of every file, which show if one was replaced."""
        for index in range(len(self)):
            try:
                about = os.stat(self.where(index))  # noqa: PTH116
            except OSError:  # a link to nothing: `read` names it
                yield -1, -1
                continue
            yield about.st_size, about.st_mtime_ns
