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

SUFFIXES = (
    ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"
)  # fmt: skip
LEFT_BEHIND = ("__macosx", "lost+found", "@eadir", "$recycle.bin", "system volume information")  # of file systems
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip")
FLAT = (
    "holds images but no class folders. The official validation archive is flat: "
    "`python -m scripts.prepare_imagenet1k` moves its images into one folder per class "
    "(docs/datasets.md#imagenet-1k). Images without labels get answers from `python -m scripts.predict images`."
)
PACKED = (
    "holds no class folders but archives, such as {}: `python -m scripts.prepare_imagenet1k` unpacks one archive per "
    "class (docs/datasets.md#imagenet-1k). WebDataset's archives are read by data.format=webdataset."
)


def is_left_out(folder: str) -> bool:
    """Whether a folder is hidden, or what an editor or a file system leaves behind."""
    return folder.startswith(".") or folder.lower() in LEFT_BEHIND


def is_image(file: str) -> bool:
    """Whether a file has the ending of an image and is not hidden."""
    return file.lower().endswith(SUFFIXES) and not file.startswith(".")


def class_folders(path: Path) -> list[str]:
    """The folders in `path` that can be classes, sorted; empty if there is no such folder."""
    if not path.is_dir():
        return []
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_left_out(entry.name))


class ImageFolder:
    """The images below the class folders of `path`, at any depth, sorted by name.

    names    (N,) bytes: path relative to `path`, with forward slashes. They are bytes in one array, since a list of a
             million strings would be copied into every data worker
    labels   (N,) int64: index into `folders`
    folders  class folders, sorted
    empty    class folders without an image
    ignored  files that are not images (by suffix), and folders that are hidden or left behind, relative to `path`
    outside  images that lie beside the class folders

    may_be_empty: whether a class folder without an image is allowed.
    Raises DataError: no class folders, class folders without an image, a folder that is found twice through a link.
    """

    by_folder = True  # classes are known by their folders
    groups = None  # files can be read in any order
    kind = "folder"

    def __init__(self, path: Path, may_be_empty: bool = False):
        self.path = path
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        self.folders = [entry.name for entry in found if entry.is_dir() and not is_left_out(entry.name)]
        beside = [entry.name for entry in found if not entry.is_dir()]
        self.outside = [name for name in beside if is_image(name)]
        self.ignored = [name for name in beside if not is_image(name)]
        self.ignored += [f"{entry.name}/" for entry in found if entry.is_dir() and is_left_out(entry.name)]
        if not self.folders:
            packed = [name for name in beside if name.lower().endswith(ARCHIVES)]
            raise DataError(
                f"{path} {FLAT if self.outside else PACKED.format(packed[0]) if packed else 'holds no class folders.'}"
            )
        names, labels, self.empty = [], [], []
        self._seen: dict[str, str] = {}  # folder without links -> as it was found
        for label, folder in enumerate(self.folders):
            inside = sorted(self._images(folder))
            names += inside
            labels.append(np.full(len(inside), label))
            if not inside:
                self.empty.append(folder)
        if self.empty and not (may_be_empty and names):
            raise DataError(
                f"{path}: no image in {some(self.empty)} ({len(self.empty)} of {len(self.folders)} class folders). "
                f"Images end in {', '.join(SUFFIXES)}; fill the folders or remove them, or keep them as classes "
                "without images: data.empty_classes=allow."
            )
        self.names, self.labels = np.array(names, dtype=bytes), np.concatenate(labels)
        order = np.argsort(self.names, kind="stable")
        self.names, self.labels = self.names[order], self.labels[order]

    def _images(self, folder: str):
        for place, inner, files in os.walk(self.path / folder, followlinks=True):
            inside = Path(place).relative_to(self.path).as_posix()
            self.ignored += [f"{inside}/{name}/" for name in inner if is_left_out(name)]
            inner[:] = [name for name in inner if not is_left_out(name)]  # the walk goes into what is left
            if (other := self._seen.setdefault(os.path.realpath(place), inside)) != inside:
                raise DataError(
                    f"{place} is the same folder as {other}: one is a link, and its images would count twice."
                )
            for file in files:
                name = f"{inside}/{file}"
                if is_image(file):
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

    def places(self) -> list[Path]:
        """The class folders, which no other split may share."""
        return [self.path / folder for folder in self.folders]

    def stamps(self) -> Iterator[tuple[int, int]]:
        """Size and time of change of every file, which show if one was replaced."""
        for index in range(len(self)):
            try:
                about = os.stat(self.where(index))  # noqa: PTH116
            except OSError:  # a link to nothing: `read` names it
                yield -1, -1
                continue
            yield about.st_size, about.st_mtime_ns

    def sizes(self) -> np.ndarray:
        """Bytes of every image, (N,) int64."""
        return np.array([size for size, _ in self.stamps()], dtype=np.int64)
