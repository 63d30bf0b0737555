"""Windows between dialogue: never over it, never too short or too long, compared with a count of every millisecond."""

import math
from itertools import pairwise

import numpy as np
import pytest

from datamodules.audio_description.cues import Cue
from datamodules.audio_description.gaps import GapRules, inside, read_windows, windows_between, windows_in
from datamodules.errors import DataError


def cues_of(rng: np.random.Generator, count: int, duration: float) -> list[Cue]:
    starts = np.round(rng.uniform(0, 1.2 * duration, count), 3)
    return sorted(
        Cue(float(a), float(a + b), "x") for a, b in zip(starts, np.round(rng.uniform(0.2, 6, count), 3), strict=True)
    )


@pytest.mark.parametrize("seed", range(20))
def test_windows_are_as_long_as_allowed_and_no_silent_stretch_is_missed(seed):
    """For every millisecond it is known whether somebody speaks within the margin; what is silent has windows."""
    rng = np.random.default_rng(seed)
    duration = float(np.round(rng.uniform(5, 60), 3))
    rules = GapRules(
        *sorted(np.round(rng.uniform(0.3, 6, 2), 3).tolist()), margin=float(np.round(rng.uniform(0, 1), 3))
    )
    cues = cues_of(rng, int(rng.integers(0, 20)), duration)
    windows = windows_between(cues, duration, rules)
    for start, end in windows:
        assert 0 <= start < end <= duration
        assert rules.shortest - 1e-6 <= end - start <= rules.longest + 1e-6
        assert not any(start < cue.end + rules.margin - 1e-9 and end > cue.start - rules.margin + 1e-9 for cue in cues)
    assert all(one[1] <= other[0] for one, other in pairwise(windows))
    loud = np.zeros(math.floor(1000 * duration), bool)
    for cue in cues:
        loud[max(0, round(1000 * (cue.start - rules.margin))) : round(1000 * (cue.end + rules.margin))] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[True], loud, [True]]).astype(int)))
    for first, stop in zip(edges[::2] / 1000, edges[1::2] / 1000, strict=True):
        there = [end - start for start, end in windows if start >= first - 0.002 and end <= stop + 0.002]
        if stop - first > rules.shortest + 0.002:
            assert sum(there) >= min(stop - first, rules.longest) - rules.shortest - 0.01


@pytest.mark.parametrize(
    "length, shortest, longest, expected",
    [
        (5.0, 1.0, 5.0, [5.0]),
        (5.1, 1.0, 5.0, [2.55, 2.55]),
        (5.1, 3.0, 5.0, [5.0]),  # two would be too short
        (0.99, 1.0, 5.0, []),
        (1.0, 1.0, 1.0, [1.0]),
        (12.0, 1.0, 5.0, [4.0, 4.0, 4.0]),
    ],
)
def test_a_gap_is_cut_into_equal_windows(length, shortest, longest, expected):
    windows = windows_in(7.0, 7.0 + length, GapRules(shortest, longest))
    np.testing.assert_allclose([end - start for start, end in windows], expected)
    assert not windows or windows[0][0] == 7.0


def test_overlapping_and_nested_cues_hide_what_the_longest_hides():
    cues = [Cue(1.0, 20.0, "a"), Cue(2.0, 3.0, "b"), Cue(19.0, 21.0, "c")]
    assert windows_between(cues, 24.0, GapRules(1.0, 5.0, margin=0.5)) == [(21.5, 24.0)]


def test_words_that_fit_are_counted_in_whole_words():
    rules = GapRules(words_per_second=2.5)
    assert rules.words_in(0.0, 2.0) == 5 and rules.fits("a b c d e", 0.0, 2.0)
    assert not rules.fits("a b c d e f", 0.0, 2.0)


@pytest.mark.parametrize("values", [(0.0, 5.0), (6.0, 5.0), (1.0, 5.0, -1.0), (1.0, 5.0, 0.1, 0.0), (1.0, math.inf)])
def test_rules_that_leave_no_window_are_refused(values):
    with pytest.raises(DataError, match="gaps: "):
        GapRules(*values)


def test_windows_of_a_table_are_taken_as_they_are(tmp_path):
    path = tmp_path / "gaps.csv"
    path.write_text("start_time,end_time,who\n7.5,8,a\n1,30.25,b\n5,5,c\n-1,2,d\n")
    windows, notes = read_windows(path)
    assert windows == [(1.0, 30.25), (7.5, 8.0)]
    assert "2 rows begin below 0 or do not end after they begin (left out)" in notes[0]
    kept, said = inside(windows, 7.0, "gaps.csv")
    assert kept == [(1.0, 7.0)] and "1 of 2 windows begin after the movie's end at 7.0 s" in said[0]
    assert inside(windows, 40.0, "gaps.csv") == (windows, [])
    path = tmp_path / "gaps.srt"
    path.write_text("00:00:01,000 --> 00:00:02,000\nx\n")
    assert read_windows(path) == ([(1.0, 2.0)], [])


@pytest.mark.parametrize(
    "text, said",
    [
        ("begin,end\n1,2\n", "no column start"),
        ("start,end\n1,soon\n", "in row 0"),
        ("start,end\n2,1\n", "no row whose end"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, text, said):
    (tmp_path / "gaps.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_windows(tmp_path / "gaps.csv")
