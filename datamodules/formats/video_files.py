"""What every reader of a video file needs, decoded by PyAV with one thread: data workers share the cores.

    with opened(path) as (container, stream):
        for frame in container.decode(stream):
            picture(path, frame, number, to_rgb)     # (H, W, 3) uint8, RGB
    check_whole(path, number, stream.frames)

Every defect is a DataError that names the file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DataError

ENDINGS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".ts")
LOST = 0.1  # share of the announced frames that may be missing: cut files announce a few they cannot show


def is_video(path: str | Path) -> bool:
    """Whether a file has the ending of a video file."""
    return Path(path).suffix.lower() in ENDINGS


def check_there(path: Path) -> str:
    """The words for a file that cannot be decoded. DataError: no such file."""
    if not path.is_file():
        raise DataError(f"{path}: no such video file.")
    return f"{path} cannot be decoded, probably truncated, damaged or not a video ({path.stat().st_size} bytes)"


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first picture track. DataError: no picture track; PyAV's errors as they are."""
    import av  # imported here: reading features needs no decoder

    with av.open(str(path)) as container:
        if not container.streams.video:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise DataError(f"{path}: no picture track in it, only {kinds}.")
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        yield container, stream


def reformatter() -> Any:
    """For `picture`: kept for all frames, since a new one per frame is slower."""
    import av

    return av.video.reformatter.VideoReformatter()


def picture(path: Path, frame: Any, number: int, to_rgb: Any) -> np.ndarray:
    """(H, W, 3) uint8 of a decoded frame. DataError: damaged."""
    if frame.is_corrupt:
        raise DataError(f"{path}: frame {number} is damaged.")
    return to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()


def check_whole(path: Path, read: int, announced: int) -> None:
    """DataError if far fewer frames were read than the header announces (0: it announces none)."""
    if read < (1 - LOST) * announced:
        raise DataError(
            f"{path}: {read} of the {announced} frames that it announces can be decoded; truncated or damaged."
        )
