"""The log-mel front end: equal to its definition, one row at a time or many, and refusals that say what to choose."""

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.log_mel import FLOOR, LogMel

SMALL = LogMel.of(rate=8000, fps=5.0, frames=4, bands=16)


def by_definition(front_end: LogMel, samples: np.ndarray) -> np.ndarray:
    """One sub-frame: power of the discrete Fourier transform, weighted triangle by triangle, in float64."""
    n = np.arange(front_end.frame)
    window = samples * (0.5 - 0.5 * np.cos(2 * np.pi * n / (front_end.frame - 1)))
    hertz = np.arange(front_end.size // 2 + 1) * front_end.rate / front_end.size
    power = np.abs(np.exp(-2j * np.pi * np.outer(hertz / front_end.rate, n)) @ window) ** 2
    mels = np.linspace(*(1127 * np.log(1 + np.array([front_end.low, front_end.high]) / 700)), front_end.bands + 2)
    edges = 700 * (np.exp(mels / 1127) - 1)
    bands = []
    for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
        weight = np.clip(np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre)), 0, None)
        bands.append(np.log(weight @ power + FLOOR))
    return np.array(bands)


def test_a_row_is_the_definition_of_its_sub_frames_one_after_the_other():
    samples = np.random.default_rng(0).standard_normal(3 * SMALL.row).astype(np.float32)
    rows = SMALL.rows(samples)
    assert rows.shape == (3, SMALL.width) == (3, 64) and rows.dtype == np.float32
    slow = [by_definition(SMALL, part) for part in samples.reshape(-1, SMALL.frame)]
    np.testing.assert_allclose(rows, np.concatenate(slow).reshape(3, -1), rtol=1e-4, atol=1e-4)


def test_a_louder_tone_is_louder_in_its_own_band_alone():
    time = np.arange(SMALL.row) / SMALL.rate
    quiet, loud = (SMALL.rows((scale * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)) for scale in (0.1, 0.2))
    gain = (loud - quiet).reshape(4, 16)
    np.testing.assert_allclose(gain.max(1), np.log(4), rtol=1e-3)
    assert (gain.argmax(1) == SMALL.filters[round(1000 * SMALL.size / 8000)].argmax()).all()


@pytest.mark.parametrize(
    "sizes, said",
    [
        ((8000, 3.0, 4, 16), "choose a rate that 12 divides"),
        ((8000, 5.0, 4, 400), "400 bands are too many for sub-frames of 400 samples"),
        ((80, 5.0, 4, 4), "bands are too many"),
        ((8000, 5.0, 0, 16), "each must be at least 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes, said):
    with pytest.raises(DataError, match=said):
        LogMel.of(*sizes)


def test_every_band_of_the_default_for_movies_hears_something():
    front_end = LogMel.of(rate=16_000, fps=5.0, frames=8, bands=64)
    assert front_end.width == 512 and front_end.row == 3200
    assert front_end.filters.any(0).all()
