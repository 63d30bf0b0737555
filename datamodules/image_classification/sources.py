"""Opens the images of a split in whatever form they lie, and says what of it was left out.

    source = opened(Path("data/mine"), "folder", "train")      # ImageFolder, ImageShards or TarShards

All sources have `names` (N,), `labels` (N,) int64, `folders` (the names that the labels are indices into, or None),
`by_folder` (whether `labels` are indices into `folders`, or class numbers), `groups`, `path`, and the methods `read`,
`where`, `places`, `stamps` and `sizes`.
"""

import logging
from pathlib import Path

from datamodules.errors import some
from datamodules.image_classification.folder import ImageFolder
from datamodules.image_classification.layout import files
from datamodules.image_classification.shards import ImageShards, parquet
from datamodules.image_classification.tars import TarShards, webdataset

log = logging.getLogger(__name__)

Source = ImageFolder | ImageShards | TarShards


def opened(
    root: Path,
    kind: str,
    name: str,
    *,
    cached: int = 1,
    columns: tuple[str | None, str | None] = (None, None),
    may_be_empty: bool = False,
) -> Source:
    """name: a folder or a pattern below `root`. cached: row groups that a process keeps. columns: of image and label.

    may_be_empty: whether class folders without an image are allowed. Raises DataError.
    """
    if kind == "parquet":
        return ImageShards(root, name, cached, *columns)
    source = TarShards(root, name) if kind == "webdataset" else ImageFolder(root / name, may_be_empty)
    if source.ignored:
        log.warning(
            "%s: left out %d files that are not images: %s", source.path, len(source.ignored), some(source.ignored)
        )
    if source.outside:
        log.warning(
            "%s: left out %d images that lie outside the class folders: %s",
            source.path, len(source.outside), some(source.outside),
        )  # fmt: skip
    if source.empty:
        log.warning("%s: class folders without an image: %s", source.path, some(source.empty))
    return source


def is_there(root: Path, kind: str, name: str) -> bool:
    """Whether there are files of that name."""
    return (root / name).is_dir() if kind == "folder" else bool(files(root, name))


def need_library(kind: str) -> None:
    """Raises ImportError, which says how to get it, if the library that reads the kind is not installed."""
    if kind != "folder":
        {"parquet": parquet, "webdataset": webdataset}[kind]()
