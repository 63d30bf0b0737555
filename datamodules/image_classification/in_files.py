"""What Parquet shards and WebDataset archives have in common: many images in each of a few files."""

from collections.abc import Iterator
from pathlib import Path


class InFiles:
    """files: the shards or archives, in the order of their images."""

    files: list[Path]

    def places(self) -> list[Path]:
        """The files, which no other split may share."""
        return self.files

    def stamps(self) -> Iterator[tuple[int, int]]:
        """Size and time of change of every file, which show if one was replaced."""
        for path in self.files:
            about = path.stat()
            yield about.st_size, about.st_mtime_ns
