"""The picture that stands for each clip of a video file: the frame that is on the screen in the clip's middle.

    frames = ClipFrames("movie.mp4", clip_length=2.0)
    pictures = list(frames)            # (H, W, 3) uint8, RGB, one per clip
    frames.duration                    # seconds, known when all are read

Clip i lasts from i * clip_length to (i + 1) * clip_length seconds after the first frame; a video of D seconds has
D / clip_length clips, rounded, at least one. Which frame it is depends on the frames' own times, not on the rate that
the header announces, so the rate may vary. These are the frames of FFmpeg's filter fps=1/clip_length, which
the extractors of the field use. A rotation that the file asks for is applied. Frames are decoded one after the other
by one thread and only the one before is kept, so a long video needs no memory.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DataError
from datamodules.formats.guard import reading

ENDINGS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".ts")
LOST = 0.1  # share of the announced frames that may be missing: cut files announce a few they cannot show
HALF = Fraction(1, 2)


def is_video(path: str | Path) -> bool:
    """Whether a file has the ending of a video file."""
    return Path(path).suffix.lower() in ENDINGS


class ClipFrames:
    """Iterates over the clips' pictures, (H, W, 3) uint8, once per iteration."""

    def __init__(self, path: str | Path, clip_length: float):
        """clip_length: seconds, above 0. Raises DataError: no such file, another clip length."""
        if not 0 < clip_length < math.inf:
            raise DataError(f"clip_length is {clip_length!r}: a clip lasts more than 0 s.")
        self.path, self.length = Path(path), Fraction(str(clip_length))
        self.duration: float | None = None
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such video file.")

    def __iter__(self) -> Iterator[np.ndarray]:
        """Raises DataError with the file's name: not a video, damaged or truncated, without pictures or frames."""
        size = self.path.stat().st_size
        problem = f"{self.path} cannot be decoded, probably truncated, damaged or not a video ({size} bytes)"
        pictures = self._pictures()
        while True:
            with reading(problem):
                picture = next(pictures, None)
            if picture is None:
                return
            yield picture

    def _pictures(self) -> Iterator[np.ndarray]:
        import av  # imported here: reading features needs no decoder

        with av.open(str(self.path)) as container:
            if not container.streams.video:
                kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
                raise DataError(f"{self.path}: no picture track in it, only {kinds}.")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            to_rgb = av.video.reformatter.VideoReformatter()  # kept for all frames; a new one per frame is slower
            clip, number, before, first, at, last = 0, 0, None, None, Fraction(0), Fraction(0)
            usual = 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)  # seconds that a frame is shown
            for frame in container.decode(stream):
                told = None if frame.pts is None else frame.pts * Fraction(frame.time_base)
                first = told if first is None else first
                at = last + usual if told is None or first is None else told - first
                if before is None:
                    at = Fraction(0)
                elif at < last:
                    raise DataError(f"{self.path}: frame {number} is shown at {float(at):g} s, before the last one.")
                while before is not None and at >= (clip + HALF) * self.length:
                    yield self._picture(before, to_rgb, number - 1)
                    clip += 1
                before, last, number = frame, at, number + 1
            if before is None:
                raise DataError(f"{self.path}: no frames in it.")
            if number < (1 - LOST) * stream.frames:
                raise DataError(
                    f"{self.path}: {number} of the {stream.frames} frames that it announces can be decoded; truncated "
                    "or damaged."
                )
            shown = before.duration * Fraction(before.time_base) if before.duration else usual
            end = last + shown
            self.duration = float(end)
            for _ in range(clip, max(1, math.floor(end / self.length + HALF))):
                yield self._picture(before, to_rgb, number - 1)

    def _picture(self, frame: Any, to_rgb: Any, number: int) -> np.ndarray:
        if frame.is_corrupt:
            raise DataError(f"{self.path}: frame {number} is damaged.")
        picture = to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return np.rot90(picture, frame.rotation // 90) if frame.rotation % 90 == 0 else picture
