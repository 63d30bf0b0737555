"""Where the images of a split are: folders of class folders, Parquet shards, WebDataset archives, or what is found.

    layout = found(Path("data/mine"), "auto", train="auto", val_split="auto", test="auto")
    layout.kind, layout.train, layout.test     # "folder", "train", "val"

A split is named by a folder (kind "folder") or by a pattern of files below the root. Numbers are images, or a share of
them, that are held out of the training images.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from datamodules.errors import DataError
from datamodules.image_classification.folder import class_folders

AUTO = "auto"
ENDINGS = {"parquet": "parquet", "webdataset": "tar"}
WORDS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
HELD_TEST, HELD_VAL = 0.2, 0.1  # shares of the training images, if nothing else is there

Place = str | float


@dataclass(frozen=True)
class Layout:
    """kind: folder | parquet | webdataset. train, val_split, test: folders or patterns below the root, or numbers."""

    kind: str
    train: str
    val_split: Place
    test: Place

    def names(self) -> list[str]:
        """The places that must be there, without numbers."""
        return [place for place in (self.train, self.test, self.val_split) if isinstance(place, str)]


def found(root: Path, format: str, train: str, val_split: Place, test: Place) -> Layout:
    """What the settings stand for. Names other than "auto" are taken as they are, whether anything is there or not.

    format "auto": folders if there is a folder `train` with class folders, else shards at any depth whose names begin
    with `train-`, or that lie in a folder `train`.
    """
    if format != AUTO:
        return Layout(format, train, val_split, test)
    if train == AUTO:
        train = next(
            (name for name in _present(root, WORDS["train"])), "." if class_folders(root) else WORDS["train"][0]
        )
    kind = "folder" if is_folder(root / train) else _kind(root, train)
    if kind is None:  # nothing is there: the message names the pattern of the shards
        return Layout("parquet", pattern_of(root, "parquet", train), val_split, _named(root, "parquet", test))
    return _auto_tests(root, kind, train, val_split, test)


def for_test(root: Path, format: str, test: Place) -> Layout | None:
    """The layout of the test images alone; None if they are held out of the training images."""
    if not isinstance(test, str):
        return None
    if format != AUTO:
        return Layout(format, "", 0, test)
    if test == AUTO:
        there = _present(root, (*WORDS["test"], *WORDS["val"]))
        test = next((name for name in there if not (root / name).is_dir() or class_folders(root / name)), None)
        if test is None:
            if _present(root, WORDS["train"]) or not class_folders(root):
                return None
            test = "."
    if (root / test).is_dir() and not _kind(root, test):
        return Layout("folder", "", 0, test)
    kind = _kind(root, test) or "parquet"
    return Layout(kind, "", 0, pattern_of(root, kind, test))


def is_folder(path: Path) -> bool:
    """Whether `path` holds class folders and not shards."""
    return path.is_dir() and not any(next(path.glob(f"*.{ending}"), None) for ending in ENDINGS.values())


def pattern_of(root: Path, kind: str, name: str) -> str:
    """The pattern of the shards that are called `name`; the hub's usual one if there is none."""
    ending = ENDINGS[kind]
    if name.endswith(f".{ending}"):
        return name
    usual = f"**/{name}-*.{ending}"
    others = (usual, f"**/{name}/**/*.{ending}", f"**/{name}.{ending}", f"**/{name}_*.{ending}")
    return next((pattern for pattern in others if next(root.glob(pattern), None)), usual)


def _kind(root: Path, name: str) -> str | None:
    """The kind of the shards that are called `name`; None if there are none."""
    return next((kind for kind in ENDINGS if next(root.glob(pattern_of(root, kind, name)), None)), None)


def _present(root: Path, words: Iterable[str]) -> list[str]:
    """Those names of a split of which there are images, as they are written: `Train` is `train`."""
    if not root.is_dir():
        return []
    written = {path.name.lower(): path.name for path in sorted(root.iterdir()) if path.is_dir()}
    return [written.get(word, word) for word in words if word in written or _kind(root, word)]


def _named(root: Path, kind: str, place: Place) -> Place:
    return pattern_of(root, kind, place) if isinstance(place, str) and kind in ENDINGS else place


def _auto_tests(root: Path, kind: str, train: str, val_split: Place, test: Place) -> Layout:
    """A test is what is called a test, else a validation, else held out; a validation likewise."""

    def labelled(words: Iterable[str]) -> str | None:
        there = _present(root, words)
        return next((name for name in there if kind != "folder" or class_folders(root / name)), None)

    alone = train == "."  # the root's own folders are the classes
    if test == AUTO:
        test = HELD_TEST if alone else labelled((*WORDS["test"], *WORDS["val"])) or HELD_TEST
    if val_split == AUTO:
        rest = None if alone else labelled(WORDS["val"])
        val_split = HELD_VAL if rest is None or rest == test else rest
    places = (_named(root, kind, train), _named(root, kind, val_split), _named(root, kind, test))
    return Layout(kind, *places)


def files(root: Path, pattern: str) -> list[Path]:
    """The files below `root` that match a pattern, in the order of the names of their samples. Raises DataError."""
    if not pattern or Path(pattern).is_absolute():
        raise DataError(f"{pattern!r} is not a pattern relative to data.root, such as data/train-*.parquet.")
    return sorted((path for path in root.glob(pattern) if path.is_file()), key=lambda path: f"{path.as_posix()}:")
