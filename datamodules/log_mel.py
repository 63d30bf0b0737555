"""The log-mel front end: a feature row is a stretch of sound, its sub-frames' mel bands one after the other.

    front_end = LogMel.of(rate=16_000, fps=5.0, frames=8, bands=64)   # rows of 0.2 s: 8 sub-frames of 25 ms
    front_end.rows(samples)                                           # (samples / row,) -> (R, 512) float32

Generated data and movies of your own go through the same code, so that their features are the same to the last digit.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import fft

from datamodules.errors import DataError

FLOOR = 1e-3  # added to the power before the logarithm
LOWEST, HIGHEST = 50.0, 0.475  # Hz; share of the rate: what `of` covers


@dataclass(frozen=True)
class LogMel:
    """Sizes in samples at `rate` per second; low and high in Hz; size: of the Fourier transform, at least `frame`."""

    rate: int
    row: int
    frame: int
    bands: int
    low: float
    high: float
    size: int

    @classmethod
    def of(cls, rate: int, fps: float, frames: int, bands: int) -> "LogMel":
        """`fps` rows per second with `frames` sub-frames each; bands from 50 Hz to just below half the rate.

        Raises DataError: a rate that rows or sub-frames do not divide, more bands than the sub-frames can tell apart.
        """
        if min(rate, frames, bands) < 1 or not fps > 0:
            raise DataError(f"sound: rate {rate}, {frames} sub-frames, {bands} bands: each must be at least 1.")
        frame = rate / fps / frames
        if frame != int(frame):
            raise DataError(
                f"sound: {rate} samples per second cannot be divided into {fps:g} rows per second with {frames} "
                f"sub-frames; choose a rate that {fps * frames:g} divides."
            )
        size = 2 ** int(np.ceil(np.log2(2 * frame)))
        front_end = cls(rate, int(frame) * frames, int(frame), bands, LOWEST, HIGHEST * rate, size)
        if front_end.high <= LOWEST or not front_end.filters.any(0).all():
            raise DataError(
                f"sound: {bands} bands are too many for sub-frames of {int(frame)} samples at {rate} Hz; choose fewer "
                "bands, or fewer sub-frames per row."
            )
        return front_end

    @property
    def width(self) -> int:
        """Numbers per row."""
        return self.row // self.frame * self.bands

    @cached_property
    def filters(self) -> np.ndarray:
        """Triangular filters, evenly spaced in mel, (bins, bands) float32."""

        def mel(hertz):
            return 1127 * np.log1p(np.asarray(hertz) / 700)

        edges = 700 * np.expm1(np.linspace(*mel((self.low, self.high)), self.bands + 2) / 1127)
        hertz = np.arange(self.size // 2 + 1)[:, None] * self.rate / self.size
        rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
        falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
        return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)

    def rows(self, samples: np.ndarray) -> np.ndarray:
        """Samples, R * row in all, float32 -> log-mel rows (R, width) float32, sub-frame by sub-frame."""
        frames = samples.reshape(-1, self.frame) * np.hanning(self.frame).astype(np.float32)
        spectrum = fft.rfft(frames, n=self.size, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        return np.log(power @ self.filters + FLOOR).reshape(-1, self.width)
