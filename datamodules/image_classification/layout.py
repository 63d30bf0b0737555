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
        return [place for place in (self.train, self.test, self.val_split) if isinstance(place, str) and place]

    def origin(self) -> str:
        """Where the splits come from, in words."""
        if not self.train:
            return f"test images alone: {self.test}"

        def of(place: Place) -> str:
            share = f"{place:.0%}" if 0 < float(place) < 1 else f"{place} images"
            return f"{share} of {self.train}"

        val, test = (place if isinstance(place, str) else of(place) for place in (self.val_split, self.test))
        return f"folders or shards (train: {self.train}, val: {val}, test: {test})"

    def notes(self, root: Path) -> tuple[str, ...]:
        """What a reader of the scores should know."""
        if isinstance(self.val_split, str) and isinstance(self.test, str) and root / self.val_split == root / self.test:
            return ("validation and test are the same images: what is chosen by validation is chosen on the test",)
        return ()


def found(root: Path, format: str, train: str, val_split: Place, test: Place) -> Layout:
    """What the settings stand for. Names other than "auto" are taken as they are, whether anything is there or not.

    format "auto": folders if there is a folder `train` with class folders, else shards at any depth whose names begin
    with `train-`, or that lie in a folder `train`.
    """
    if format != AUTO:
        return Layout(format, train, val_split, test)
    if train == AUTO:
        train = _named_so(root, WORDS["train"]) or _alone(root) or WORDS["train"][0]
    kind = "folder" if is_folder(root / train) else _kind(root, train)
    if kind is None:  # nothing is there: the message names the pattern of the shards
        val_split, test = (
            share if place == AUTO else place for place, share in ((val_split, HELD_VAL), (test, HELD_TEST))
        )
        return Layout("parquet", *(_pattern(root, "parquet", place) for place in (train, val_split, test)))
    if test == AUTO:
        test = (train != "." and _named_so(root, (*WORDS["test"], *WORDS["val"]), kind)) or HELD_TEST
    if val_split == AUTO:
        rest = train != "." and _named_so(root, WORDS["val"], kind)
        val_split = rest if rest and rest != test else HELD_VAL
    return Layout(kind, *(_pattern(root, kind, place) for place in (train, val_split, test)))


def for_test(root: Path, format: str, test: Place) -> Layout | None:
    """The layout of the test images alone; None if they are held out of the training images."""
    if not isinstance(test, str):
        return None
    if format != AUTO:
        return Layout(format, "", 0, test)
    if test == AUTO:
        test = _named_so(root, (*WORDS["test"], *WORDS["val"])) or _alone(root) or AUTO
        if test == AUTO or (test == "." and not is_folder(root)):
            return None
    if is_folder(root / test):
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


def _named_so(root: Path, words: Iterable[str], kind: str | None = None) -> str | None:
    """The first of the names of a split of which there are images: folders of class folders, however they are
    capitalised, else shards. kind: that of the training images; None: any."""
    written = (
        {path.name.lower(): path.name for path in sorted(root.iterdir()) if path.is_dir()} if root.is_dir() else {}
    )
    folders = (written[word] for word in words if word in written)
    if kind in (None, "folder"):  # without a search for shards among a million images
        found = next((name for name in folders if is_folder(root / name) and class_folders(root / name)), None)
        if found is not None or kind == "folder":
            return found
    return next((word for word in words if _kind(root, word) in (ENDINGS if kind is None else (kind,))), None)


def _alone(root: Path) -> str:
    """What says that the folders in `root` are the classes themselves, "."; "" if not. DataError: that is unclear."""
    there = class_folders(root)
    splits = [name for name in there if name.lower() in {word for words in WORDS.values() for word in words}]
    flat = [name for name in splits if not class_folders(root / name)]
    if flat and len(splits) < len(there):
        raise DataError(
            f"{root}: {flat[0]} may be a class or a split; it holds no class folders. If it is a class like the "
            "others, say that the folders are the classes: data.train=. data.test=0.2. If its images have no class, "
            "move it elsewhere."
        )
    return "." if there and not splits else ""


def _pattern(root: Path, kind: str, place: Place) -> Place:
    return pattern_of(root, kind, place) if isinstance(place, str) and kind in ENDINGS else place


def files(root: Path, pattern: str) -> list[Path]:
    """The files below `root` that match a pattern, in the order of the names of their samples. Raises DataError."""
    if not pattern or Path(pattern).is_absolute():
        raise DataError(f"{pattern!r} is not a pattern relative to data.root, such as data/train-*.parquet.")
    return sorted((path for path in root.glob(pattern) if path.is_file()), key=lambda path: f"{path.as_posix()}:")
