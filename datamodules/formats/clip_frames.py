"""The picture that stands for each clip of a video file: the frame that is on the screen in the clip's middle.

    frames = ClipFrames("movie.mp4", clip_length=2.0)
    pictures = list(frames)            # (H, W, 3) uint8, RGB, one per clip
    frames.duration                    # seconds, known when all are read

Clip i lasts from i * clip_length to (i + 1) * clip_length seconds after the first frame; a video of D seconds has
D / clip_length clips, rounded, at least one. Which frame it is depends on the frames' own times, not on the rate that
the header announces, so the rate may vary. These are the frames of FFmpeg's filter fps=1/clip_length, which
the extractors of the field use. Turning and mirroring that the file's header asks for are applied. Frames are decoded
one after the other and only the one before is kept, so a long video needs no memory.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import DataError
from datamodules.formats.guard import reading
from datamodules.formats.video_files import check_pause, check_there, decoded, opened, picture, reformatter

HALF = Fraction(1, 2)


class ClipFrames:
    """Iterates over the clips' pictures, (H, W, 3) uint8, once per iteration."""

    def __init__(self, path: str | Path, clip_length: float):
        """clip_length: seconds, above 0. Raises DataError: no such file, another clip length."""
        if not 0 < clip_length < math.inf:
            raise DataError(f"clip_length is {clip_length!r}: a clip lasts more than 0 s.")
        self.path, self.length = Path(path), Fraction(str(clip_length))
        self.duration: float | None = None
        check_there(self.path)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Raises DataError with the file's name: not a video, damaged or truncated, without pictures or frames."""
        problem, pictures = check_there(self.path), self._pictures()
        while True:
            with reading(problem):
                found = next(pictures, None)
            if found is None:
                return
            yield found

    def _pictures(self) -> Iterator[np.ndarray]:
        with opened(self.path) as (container, stream):
            to_rgb = reformatter()
            clip, number, before, first, at, last = 0, 0, None, None, Fraction(0), Fraction(0)
            usual = 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)  # seconds that a frame is shown
            for frame in decoded(self.path, container, stream):
                told = None if frame.pts is None else frame.pts * Fraction(frame.time_base)
                first = told if first is None else first
                at = last + usual if told is None or first is None else told - first
                if before is None:
                    at = Fraction(0)
                elif at < last:
                    raise DataError(f"{self.path}: frame {number} is shown at {float(at):g} s, before the last one.")
                check_pause(self.path, float(at - last), float(last))
                while before is not None and at >= (clip + HALF) * self.length:
                    yield self._picture(before, to_rgb, number - 1)
                    clip += 1
                before, last, number = frame, at, number + 1
            if before is None:
                raise DataError(f"{self.path}: no frames in it.")
            shown = before.duration * Fraction(before.time_base) if before.duration else usual
            end = last + shown
            self.duration = float(end)
            for _ in range(clip, max(1, math.floor(end / self.length + HALF))):
                yield self._picture(before, to_rgb, number - 1)

    def _picture(self, frame: Any, to_rgb: Any, number: int) -> np.ndarray:
        return picture(self.path, frame, number, to_rgb, rotation="apply")
