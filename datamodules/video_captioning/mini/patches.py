"""Features of the mini clips without a network: low frequencies of overlapping space-time patches.

    patches = Patches(scale)                # scale: patches_scale(some training clips)
    patches(frames)                         # (F, S, S, 3) uint8 -> (SLOTS * GRID * GRID, WIDTH) float32

A clip is cut into 2 periods of time x 4 x 4 places; at each place a window of twice its size is seen at half its
resolution. Its brightness and colours go through a cosine transform (in time and space, as in video codecs) of which
the low frequencies are kept. That is linear in the pixels and nothing is learned; each frequency is divided by its
standard deviation over training clips.
"""

import numpy as np

SLOTS = 2  # periods of time
GRID = 4  # places along each side
WINDOW = 16  # pixels along a window's side, after halving
LUMA, CHROMA = 11, 3  # frequencies are kept while x + y + 2 t is at most this
SPACE = np.array([[0.299, 0.587, 0.114], [0.5, -0.419, -0.081], [-0.169, -0.331, 0.5]])  # brightness, red, blue


def cosines(length: int) -> np.ndarray:
    """(length, length) float64: rows are the orthonormal cosine waves of rising frequency."""
    waves = np.cos(np.pi * np.arange(length)[:, None] * (np.arange(length) + 0.5) / length)
    waves *= np.sqrt(2 / length)
    waves[0] /= np.sqrt(2)
    return waves


def kept(period: int, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequencies (time, down, across) that are kept."""
    time, down, across = np.indices((period, WINDOW, WINDOW))
    return np.nonzero(2 * time + down + across <= most)


def lens(size: int) -> np.ndarray:
    """(GRID * (LUMA + 1), size): one axis of a frame -> the waves of its GRID windows. Pixels at the edge repeat."""
    half, step = size // 2, size // 2 // GRID
    seen = np.arange(GRID)[:, None] * step - (WINDOW - step) // 2 + np.arange(WINDOW)  # (GRID, WINDOW) halved pixels
    window = np.eye(half)[seen.clip(0, half - 1)]  # (GRID, WINDOW, S / 2)
    waves = cosines(WINDOW)[: LUMA + 1] @ window @ np.repeat(np.eye(half), 2, axis=1) / 2
    return waves.reshape(-1, size)


class Patches:
    """Frames of one clip -> its tokens. scale (WIDTH,): what each feature is divided by; None: features stay as is."""

    def __init__(self, frames: int, size: int, scale: np.ndarray | None = None):
        """frames: frames of a clip, a multiple of SLOTS; size: side of a frame in pixels, a multiple of 2 * GRID."""
        self.period, self.scale = frames // SLOTS, scale
        self.time, self.lens = cosines(self.period), lens(size)
        self.chosen = [kept(self.period, LUMA), kept(self.period, CHROMA), kept(self.period, CHROMA)]

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        colour = np.moveaxis(frames @ (SPACE.T / 255), -1, 0) - np.array([0.5, 0, 0])[:, None, None, None]
        waves = self.lens @ colour @ self.lens.T  # (3, F, places x waves down, places x waves across)
        waves = self.time @ waves.reshape(3, SLOTS, self.period, -1)
        waves = waves.reshape(3, SLOTS, self.period, GRID, LUMA + 1, GRID, LUMA + 1)
        parts = [
            wave[:, time, :, down, :, across] for wave, (time, down, across) in zip(waves, self.chosen, strict=True)
        ]
        tokens = np.concatenate(parts).reshape(-1, SLOTS * GRID * GRID).T  # each part (frequencies, SLOTS, GRID, GRID)
        return (tokens if self.scale is None else tokens / self.scale).astype(np.float32)


def patches_scale(clips: list[np.ndarray]) -> np.ndarray:
    """(WIDTH,) standard deviation of every feature over these clips, to four digits: the same on any machine."""
    count, size = len(clips[0]), clips[0].shape[1]
    tokens = np.concatenate([Patches(count, size)(clip) for clip in clips]).astype(np.float64)
    spread = tokens.std(0)
    return np.array([float(f"{one:.4g}") for one in spread]) + 1e-3
