"""A split as WebDataset archives: tar files whose members of one name are a sample, `0001.jpg` and `0001.cls`.

    split = TarShards(Path("data/mine"), "train-*.tar")     # needs webdataset
    split.names[0]       # b"train-000000.tar:0001"
    split.read(0)        # the image's bytes

The library webdataset says which members belong together; only the headers and the labels are read for that. Images are
then read in place, so any order is possible. The label is the member `cls` (a number, or the name of the class),
or the key `label` of the member `json`.
"""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datamodules.errors import DataError, MissingLibraryError, some
from datamodules.formats.guard import reading
from datamodules.formats.json_text import parse_json
from datamodules.formats.tar_files import files_in
from datamodules.image_classification.folder import SUFFIXES
from datamodules.image_classification.in_files import InFiles
from datamodules.image_classification.layout import files

LABELS = ("cls", "json", "txt")  # members that may hold the label


def webdataset():
    """webdataset's reader of archives. Raises ImportError that says how to get it."""
    try:
        from webdataset import tariterators
    except ImportError as error:
        raise MissingLibraryError(
            "data.format=webdataset reads archives with webdataset: pip install webdataset."
        ) from error
    return tariterators


class TarShards(InFiles):
    """The samples of all archives that match `pattern` below `root`, in the order of files and keys.

    names    (N,) bytes: "<file>:<key>", the file relative to `root`; sorted
    labels   (N,) int64: class numbers, or indices into `folders` if the labels are names
    folders  the names among the labels, sorted; None if labels are numbers
    groups   None: images are read in any order
    ignored  members that belong to no image; outside, empty: always empty

    Raises DataError: no archive; a damaged one; a sample without a label or with another kind of label than the others.
    Raises ImportError without webdataset.
    """

    groups = None
    kind = "webdataset"

    def __init__(self, root: Path, pattern: str):
        webdataset()
        self.root, self.path, self.ignored, self.outside, self.empty = root, root / pattern, [], [], []
        self.files = files(root, pattern)
        if not self.files:
            raise DataError(f"no WebDataset archive matches {root / pattern}.")
        names, labels, places = [], [], []
        for number, path in enumerate(self.files):
            with reading(f"{path} cannot be read as a WebDataset archive"):
                for key, label, start, size in self._samples(path):
                    names.append(os.fsencode(f"{path.relative_to(root).as_posix()}:{key}"))
                    labels.append(label)
                    places.append((number, start, size))
        if not names:
            raise DataError(f"the {len(self.files)} archive(s) {root / pattern} hold no image ({', '.join(SUFFIXES)}).")
        self.by_folder = isinstance(labels[0], str)
        if other := [n for n, label in zip(names, labels, strict=True) if isinstance(label, str) != self.by_folder]:
            raise DataError(f"{root / os.fsdecode(other[0])}: labels are numbers in some samples and names in others.")
        self.folders, found = None, np.array(labels)
        if self.by_folder:
            folders, found = np.unique(found, return_inverse=True)
            self.folders = folders.tolist()
        order = np.argsort(np.array(names, dtype=bytes), kind="stable")
        self.names, self.labels = np.array(names, dtype=bytes)[order], found.astype(np.int64)[order]
        self._places = np.array(places, dtype=np.int64)[order]  # (N, 3): file, first byte, number of bytes
        if (twice := self.names[1:][self.names[1:] == self.names[:-1]]).size:
            raise DataError(f"{root / os.fsdecode(twice[0])}: the archive has two samples of that name.")

    def _samples(self, path: Path) -> Iterator[tuple[str, int | str, int, int]]:
        """Key, label, first byte and number of bytes of every image of an archive. Raises DataError."""
        with tarfile.open(path, "r:") as archive:  # not compressed: images are read in place
            members = ({"fname": m.name, "data": m, "__url__": str(path)} for m in files_in(archive))
            for sample in webdataset().group_by_keys(members):
                key = sample["__key__"]
                parts = {name: part for name, part in sample.items() if not name.startswith("__")}
                image = next((part for name, part in parts.items() if f".{name}".endswith(SUFFIXES)), None)
                if image is None:
                    self.ignored += [part.name for part in parts.values()]
                    continue
                yield key, self._label(archive, path, key, parts), image.offset_data, image.size

    def _label(self, archive: tarfile.TarFile, path: Path, key: str, parts: dict) -> int | str:
        for name in LABELS:
            if name not in parts:
                continue
            text = archive.extractfile(parts[name]).read().decode().strip()
            if name == "json":
                found = parse_json(text, f"{path}:{key}.json")
                text = str(found["label"]) if isinstance(found, dict) and "label" in found else ""
            if text:
                if text.lstrip("-").isdigit() and int(text) < 0:
                    raise DataError(f"{path}:{key}.{name}: label {text}; class numbers start at 0.")
                return int(text) if text.isdigit() else text
        raise DataError(
            f"{path}: the sample {key} has {some(parts)} and no label; it is the member cls (a number or a name), txt, "
            "or the key label of the member json."
        )

    def __len__(self) -> int:
        return len(self.names)

    def where(self, index: int) -> str:
        """The name of the image in messages."""
        return str(self.root / os.fsdecode(self.names[index]))

    def read(self, index: int) -> bytes:
        """The image's bytes. Raises DataError if the archive is shorter than it was."""
        number, start, size = self._places[index].tolist()
        with reading(f"{self.where(index)} cannot be read"), open(self.files[number], "rb") as file:  # noqa: PTH123
            file.seek(start)
            data = file.read(size)
        if len(data) < size:
            raise DataError(f"{self.where(index)} cannot be read: the archive ends {size - len(data)} bytes early.")
        return data

    def sizes(self) -> np.ndarray:
        """Bytes of every image, (N,) int64."""
        return self._places[:, 2]
