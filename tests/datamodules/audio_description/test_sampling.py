"""Segment to rows, rows to tokens, at awkward lengths."""

import numpy as np
import pytest

from datamodules.audio_description.sampling import SAMPLINGS, sample_rows, segment_rows


@pytest.mark.parametrize(
    "start, end, length, expected",
    [
        (0.0, 0.2, 100, (0, 1)),
        (0.05, 0.06, 100, (0, 1)),  # shorter than a row
        (0.0, 5.0, 100, (0, 25)),
        (0.1, 5.1, 100, (0, 26)),
        (1.3, 4.9, 100, (6, 25)),
        (19.0, 25.0, 100, (95, 100)),  # runs past the end of the features
        (19.9, 20.0, 100, (99, 100)),
        (20.0, 21.0, 100, (100, 101)),  # begins after it: the caller leaves it out
    ],
)
def test_rows_that_a_segment_touches(start, end, length, expected):
    assert segment_rows(start, end, 5.0, length) == expected


@pytest.mark.parametrize("policy", SAMPLINGS)
@pytest.mark.parametrize(
    "first, count, length", [(0, 1, 1), (7, 1, 8), (0, 24, 24), (3, 25, 28), (0, 26, 26), (5, 150, 155)]
)
def test_sampling_at_awkward_lengths(policy, first, count, length):
    rows = sample_rows(first, first + count, length, 25, policy)
    real = rows[rows >= 0]
    assert rows.shape == (25,) and (rows[len(real) :] == -1).all()
    assert (np.diff(real) >= 0).all() and real.min() >= 0 and real.max() < length
    if policy == "window":
        assert len(real) == min(25, length) and (np.diff(real) == 1).all()
    else:
        assert real[0] == first and (count == 1 or real[-1] == first + count - 1)
        assert len(real) == (25 if policy == "linspace" else min(count, 25))


@pytest.mark.parametrize(
    "first, stop, expected", [(0, 5, (0, 25)), (40, 45, (30, 55)), (97, 100, (75, 100)), (20, 80, (37, 62))]
)
def test_window_is_centred_and_stays_inside(first, stop, expected):
    assert sample_rows(first, stop, 100, 25, "window").tolist() == list(range(*expected))


def test_unknown_sampling_is_refused():
    with pytest.raises(ValueError, match="sampling is 'nearest', allowed: segment_pad, window, linspace"):
        sample_rows(0, 5, 10, 25, "nearest")
