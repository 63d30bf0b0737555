"""Frames of a video file, evenly spread over it or over a part of it, decoded by PyAV.

    read_video(Path("video0.mp4"), 32)                       # (32, H, W, 3) uint8, RGB
    read_video(Path("a.mkv"), 32, span=(90.0, 102.5))        # of the frames shown from 90 to 102.5 s

The frames are those of np.linspace(0, n - 1, count), rounded; a clip of fewer than `count` frames repeats some. What
the file's header says about turning and mirroring is ignored, as the loaders of the published data sets do, unless
rotation="apply".
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from datamodules.errors import DataError
from datamodules.formats.guard import reading
from datamodules.formats.video_files import Rotation, check_there, decoded, opened, picture, reformatter


def spread(total: int, count: int) -> np.ndarray:
    """(count,) int64 numbers of frames, 0..total - 1, the first and the last included."""
    return np.rint(np.linspace(0, total - 1, count)).astype(np.int64)


def read_video(
    path: str | Path, count: int, span: tuple[float, float] | None = None, rotation: Rotation = "ignore"
) -> np.ndarray:
    """`count` frames, (count, H, W, 3) uint8. span: seconds from the start; frames outside are not used.

    Raises DataError with the file's name: missing, not a video, damaged or truncated, without a picture track or
    frames, nothing shown within `span`.
    """
    path = Path(path)
    with reading(check_there(path)):
        kept, total = _decode(path, None, count, span, rotation)
        if total > 0 and not kept.keys() >= set(spread(total, count).tolist()):
            kept, _ = _decode(path, total, count, span, rotation)  # there are fewer or more than announced
    if not total:
        raise DataError(f"{path}: no frames" + (" in it." if span is None else f" from {span[0]:g} to {span[1]:g} s."))
    with reading(f"{path} cannot be decoded, probably damaged"):  # its pictures may be of different sizes
        return np.stack([kept[index] for index in spread(total, count).tolist()])


def _decode(
    path: Path, total: int | None, count: int, span: tuple[float, float] | None, rotation: Rotation
) -> tuple[dict[int, np.ndarray], int]:
    """Frames by number, as far as `count` of `total` need them; how many there are.

    total: None is the announced number, or 0 for a part.
    """
    with opened(path) as (container, stream):
        if total is None:
            total = stream.frames if span is None else 0
        wanted = set(spread(total, count).tolist()) if total else set()
        to_rgb, kept, number = reformatter(), {}, 0
        for frame in _frames(path, container, stream, span):
            if number in wanted:
                kept[number] = picture(path, frame, number, to_rgb, rotation)
            number += 1
        return kept, number


def _frames(path: Path, container, stream, span: tuple[float, float] | None) -> Iterator:
    """Decoded frames of the whole video, or those shown within `span`."""
    first = float((stream.start_time or 0) * stream.time_base)
    if span is not None and span[0] > 0:
        container.seek(int((first + span[0]) / stream.time_base), stream=stream)  # to the key frame before
    for frame in decoded(path, container, stream, from_start=span is None or span[0] <= 0):
        if span is not None:
            at = -1.0 if frame.time is None else frame.time - first
            if at >= span[1]:
                return
            if at < span[0]:
                continue
        yield frame
