"""The sound of a movie file as feature rows, beside its pictures, whatever codec, rate and channels it has.

    sound = SoundRows("movie.mp4", LogMel.of(rate=16_000, fps=5.0, frames=8, bands=64))
    count, rows = sound.next(wanted=True)      # rows 0 to 31, (32, 512) float32; always 32: silence behind the end
    sound.end                                  # seconds at which the sound ended; None while it has not

Row i is of the sound from i / fps to (i + 1) / fps seconds after the first picture, so picture and sound rows of one
number belong together. Channels are mixed and samples converted by FFmpeg's resampler (PyAV). Sound that begins later
than the picture, or is interrupted, is silence there. Decoding goes on with the rows that are asked for, so a long
movie needs no memory.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.audio_description.streamed import CHUNK
from datamodules.errors import DataError
from datamodules.formats.guard import reading
from datamodules.formats.video_files import check_there, opened
from datamodules.log_mel import LogMel

DRIFT = Fraction(1, 10)  # s by which the samples may be off the time that the file says before they are moved


class SoundRows:
    """Yields rows by `next`, CHUNK at a time: a product of matrices of another size rounds its last digit otherwise."""

    def __init__(self, path: str | Path, front_end: LogMel):
        """DataError: no such file. What is in it is found out when rows are asked for."""
        self.path, self.front_end = Path(path), front_end
        self.problem = check_there(self.path).replace("decoded", "decoded as sound", 1)
        self.samples = np.zeros(0, np.float32)  # decoded, of no row yet
        self.pieces: Iterator[np.ndarray] | None = self._pieces()
        self.read, self.end = 0, None

    @property
    def width(self) -> int:
        return self.front_end.width

    def next(self, wanted: bool) -> tuple[int, np.ndarray | None]:
        """How many rows come next, and the rows if they are `wanted`. DataError: no sound track, damaged."""
        samples = self._take(CHUNK * self.front_end.row)
        return CHUNK, self.front_end.rows(samples) if wanted else None

    def _take(self, count: int) -> np.ndarray:
        parts, there = [self.samples], len(self.samples)
        while there < count and self.pieces is not None:
            with reading(self.problem):
                piece = next(self.pieces, None)
            if piece is None:
                self.pieces, self.end = None, (self.read + there) / self.front_end.rate
                break
            parts.append(piece)
            there += len(piece)
        samples = np.concatenate(parts)
        self.samples, taken = samples[count:], samples[:count]
        self.read += count
        return np.pad(taken, (0, count - len(taken)))

    def _pieces(self) -> Iterator[np.ndarray]:
        """The samples without a hole from the first picture on, in pieces of a second at most."""
        rate, done, zero = self.front_end.rate, 0, first_picture(self.path)
        for part in resampled(self.path, rate):
            values, told = part.to_ndarray()[0], None if part.pts is None else part.pts * Fraction(part.time_base)
            late = 0 if told is None else round((told - zero) * rate) - done
            if done and abs(late) < DRIFT * rate:
                late = 0
            for first in range(0, late, rate):
                yield np.zeros(min(rate, late - first), np.float32)
            values = values[max(0, -late) :]
            done += max(0, late) + len(values)
            if len(values):
                yield values


def first_picture(path: Path) -> Fraction:
    """When the first picture is shown, in seconds of the file's own clock; 0 if the file does not say."""
    with opened(path) as (container, stream):
        for frame in container.decode(stream):
            return Fraction(0) if frame.pts is None else frame.pts * Fraction(frame.time_base)
    raise DataError(f"{path}: no frames in it.")


def resampled(path: Path, rate: int) -> Iterator[Any]:
    """Decoded frames of the sound track that players choose, as mono float32 at `rate`. DataError: none."""
    import av  # imported here: reading features needs no decoder

    with opened(path) as (container, _):
        sound = container.streams.best("audio")
        if sound is None:
            raise DataError(f"{path}: no sound track in it.")
        resampler, form = None, None
        for frame in container.decode(sound):
            found = (frame.format.name, frame.layout.name, frame.sample_rate)
            if found != form:  # at the beginning, and when a broadcast changes from two channels to six
                if resampler is not None:
                    yield from resampler.resample(None)
                resampler, form = av.AudioResampler(format="flt", layout="mono", rate=rate), found
            yield from resampler.resample(frame)
        if resampler is not None:
            yield from resampler.resample(None)
