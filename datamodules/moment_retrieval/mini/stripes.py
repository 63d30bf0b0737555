"""Moving stripes and the features that a motion detector would have of them.

A clip is 16 pictures of a row of 8 pixels: stripes of a random phase that drift left or right, flicker, or stand still,
in noise. Its features are the logarithm of the power at each of 9 temporal x 8 spatial frequencies.

    rows = stripes(np.array([0, 3]), noise=0.5, rng=rng)   # (2, 72) float32, of MOTIONS[0] and MOTIONS[3]
"""

import numpy as np
from scipy import fft

MOTIONS = ("left", "right", "flicker", "still")
PICTURES, ROW = 16, 8
CLIP = 2  # seconds
SPECTRUM = (PICTURES // 2 + 1) * ROW  # features per clip
CYCLES = 2  # stripes across the row
BEATS = 2  # stripes that drift past a pixel in a clip
FLOOR = 1e-2  # added to the power before the logarithm


def stripes(motions: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Features of one clip for each motion (n,), (n, 72) float32; the stripes have amplitude 1."""
    count = len(motions)
    phase, later = rng.uniform(0, 2 * np.pi, (2, count, 1, 1))
    place = 2 * np.pi * CYCLES * np.arange(ROW) / ROW + phase  # (n, 1, 8)
    beat = 2 * np.pi * BEATS * np.arange(PICTURES)[:, None] / PICTURES + later  # (n, 16, 1)
    flicker = np.sqrt(2) * np.sin(place) * np.sin(beat)
    kinds = [np.sin(place + beat), np.sin(place - beat), flicker, np.sin(place + 0 * beat)]  # as MOTIONS
    seen = np.choose(np.asarray(motions)[:, None, None], kinds).astype(np.float32)
    seen += noise * rng.standard_normal(seen.shape, dtype=np.float32)
    spectrum = fft.fft(fft.rfft(seen, axis=1), axis=2) / np.sqrt(PICTURES * ROW)
    return np.log(np.abs(spectrum) ** 2 + FLOOR).reshape(count, SPECTRUM).astype(np.float32)
