"""What every reader of a video file needs, decoded by PyAV with one thread: data workers share the cores.

    with opened(path) as (container, stream):
        for number, frame in enumerate(decoded(path, container, stream)):
            picture(path, frame, number, to_rgb)     # (H, W, 3) uint8, RGB

Every defect is a DataError that names the file. What a file's header says about how it is to be shown (turned by 90,
180 or 270 degrees, mirrored) is applied by `picture(..., rotation="apply")`.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.errors import DataError
from datamodules.formats.guard import reading
from datamodules.formats.video_ends import check_bytes, check_end, end_of

ENDINGS = (
    ".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".ts",
    ".3g2", ".3gp", ".asf", ".divx", ".dv", ".f4v", ".gif", ".m1v", ".m2ts", ".m2v", ".mjpeg", ".mjpg", ".mpe", ".mts",
    ".mxf", ".nut", ".ogv", ".qt", ".rm", ".rmvb", ".vob", ".wmv", ".wtv", ".y4m",
)  # fmt: skip
LOST = 0.1  # share of the announced frames that may be missing: cut files announce a few they cannot show
PAUSE = 3600.0  # seconds for which one frame may be shown
Rotation = Literal["apply", "ignore"]


def is_video(path: str | Path) -> bool:
    """Whether a file has the ending of a video file."""
    return Path(path).suffix.lower() in ENDINGS


def check_there(path: Path) -> str:
    """The words for a file that cannot be decoded. DataError: no such file."""
    if not path.is_file():
        raise DataError(f"{path}: no such video file.{other_ending(path)}")
    return f"{path} cannot be decoded, probably truncated, damaged or not a video ({path.stat().st_size} bytes)"


def other_ending(path: Path) -> str:
    """The text " video0.MP4 is there." for a file that is there with another ending of a video, or ""."""
    endings = [form for ending in ENDINGS for form in (ending, ending.upper())]
    there = [f"{path.stem}{ending}" for ending in endings if path.with_name(f"{path.stem}{ending}").is_file()]
    return f" {' and '.join(there)} {'is' if len(there) == 1 else 'are'} there." if there else ""


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its first picture track.

    Raises DataError: no picture track, one in a format that is unknown here; PyAV's errors as they are.
    """
    import av  # imported here: reading features needs no decoder

    with av.open(f"file:{path}") as container:  # a name with a colon would be taken for a protocol
        if not container.streams.video:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise DataError(f"{path}: no picture track in it, only {kinds}.")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise DataError(
                f"{path}: the format of its picture track is unknown to FFmpeg {av.ffmpeg_version_info} (PyAV "
                f"{av.__version__}). Convert the file, to H.264 for example, or install a newer PyAV; the file may be "
                "damaged, too."
            )
        stream.codec_context.thread_count = 1
        yield container, stream


def decoded(path: Path, container: Any, stream: Any, *, from_start: bool = True) -> Iterator[Any]:
    """The frames from here to the end. DataError after the last one if the end of the file is missing.

    from_start: False after a seek; how many frames there are is not compared with the header then.
    """
    number, end = 0, 0.0
    for packet in container.demux():  # of all tracks: sound may go on after the last picture
        end = max(end, end_of(packet))
        if packet.stream is stream:
            for frame in packet.decode():
                number += 1
                yield frame
    if from_start:
        check_whole(path, number, stream.frames)
    check_end(path, container, end)
    check_bytes(path, container)


def reformatter() -> Any:
    """For `picture`: kept for all frames, since a new one per frame is slower."""
    import av

    return av.video.reformatter.VideoReformatter()


def picture(path: Path, frame: Any, number: int, to_rgb: Any, rotation: Rotation = "ignore") -> np.ndarray:
    """(H, W, 3) uint8 of a decoded frame. rotation: what to do if the header says that it is to be shown turned or
    mirrored. DataError: damaged."""
    if frame.is_corrupt:
        raise DataError(f"{path}: frame {number} is damaged.")
    pixels = to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
    return as_shown(pixels, frame) if rotation == "apply" else pixels


def as_shown(pixels: np.ndarray, frame: Any) -> np.ndarray:
    """A frame's pixels (H, W, 3), turned and mirrored as its display matrix says; other angles are left as they are."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels
    a, b, _, c, d = struct.unpack("5i", bytes(matrix)[:20])  # x' = a x + c y, y' = b x + d y
    if (a, d) == (0, 0) and b and c:
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    elif (b, c) != (0, 0):
        return pixels
    pixels = pixels[:, ::-1] if a < 0 else pixels
    return pixels[::-1] if d < 0 else pixels


def check_whole(path: Path, read: int, announced: int) -> None:
    """DataError if far fewer frames were read than the header announces (0: it announces none)."""
    if read < (1 - LOST) * announced:
        raise DataError(
            f"{path}: {read} of the {announced} frames that it announces can be decoded; truncated or damaged."
        )


def check_pause(path: Path, pause: float, at: float) -> None:
    """DataError if a picture were shown for hours: one wrong bit of a time makes days of it."""
    if pause > PAUSE:
        raise DataError(f"{path}: the next frame after {at:.2f} s is shown {pause:.0f} s later; its times are damaged.")


def length_of(path: Path) -> float | None:
    """Seconds that the picture track lasts, by the times of its packets: nothing is decoded. None: it has no times.

    Raises DataError with the file's name: missing, not a video, damaged.
    """
    with reading(check_there(path)), opened(path) as (container, stream):
        first = end = float((stream.start_time or 0) * stream.time_base)
        for packet in container.demux(stream):
            at = end_of(packet)
            check_pause(path, at - end, end - first)
            end = max(end, at)
    return end - first if end > first else None
