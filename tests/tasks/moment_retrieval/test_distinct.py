"""Answers have no window without length, no two equal ones, and none that overlaps a better one too much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.moment_retrieval.distinct import distinct, lengthy, unlike
from tasks.moment_retrieval.excerpts import iou

SHARES = st.floats(0, 30, allow_nan=False).map(lambda value: round(value, 4))
WINDOWS = st.lists(st.tuples(SHARES, SHARES).map(sorted), max_size=12).map(
    lambda spans: [[*span, round(1 - rank / 20, 2)] for rank, span in enumerate(spans)]
)


@given(WINDOWS, st.sampled_from([1.0, 2.0, 0.7]), st.sampled_from([0.0, 0.5, 0.9, 1.0]))
def test_what_is_left_has_a_length_and_is_unlike_all_else(exact, clip_length, overlap) -> None:
    rounded = [[*(round(value / clip_length) * clip_length for value in window[:2]), window[2]] for window in exact]
    found = distinct(rounded, exact, overlap)
    assert all(start < end for start, end, _ in found)
    assert [score for *_, score in found] == sorted((score for *_, score in found), reverse=True)
    for number, window in enumerate(found):
        assert window in rounded or window in exact
        assert all(iou(window[:2], other[:2]) <= overlap for other in found[:number])
        assert all(window[:2] != other[:2] for other in found[:number])
    kept = {tuple(window[:2]) for window in found}
    for window, before in zip(rounded, exact, strict=True):
        a, b = window[:2] if window[0] < window[1] else before[:2]
        if a < b and (a, b) not in kept:  # it went for a reason
            assert any(iou((a, b), other) > overlap for other in kept)
    if any(end > start for start, end, _ in exact):
        assert found


def test_a_window_that_rounding_emptied_is_as_it_was() -> None:
    assert lengthy([[4, 4, 0.9], [6, 8, 0.5]], [[3.4, 4.3, 0.9], [5.1, 8.2, 0.5]]) == [[3.4, 4.3, 0.9], [6, 8, 0.5]]
    assert lengthy([[4, 4, 0.9]], [[4.1, 4.1, 0.9]]) == []


def test_of_equal_windows_the_best_is_left() -> None:
    assert unlike([[0, 2, 0.9], [0, 2, 0.8], [2, 4, 0.7], [0, 2, 0.1]]) == [[0, 2, 0.9], [2, 4, 0.7]]


def test_overlap_is_an_iou_above_which_the_worse_goes() -> None:
    windows = [[0, 10, 0.9], [0, 8, 0.8], [0, 5, 0.7]]  # IoU with the first: 0.8 and 0.5
    assert unlike(windows, 0.8) == windows
    assert unlike(windows, 0.79) == [windows[0], windows[2]]
    assert unlike(windows, 0.5) == [windows[0], windows[2]]
    assert unlike(windows, 0.49) == [windows[0]]


def test_the_lists_must_belong_together() -> None:
    with pytest.raises(ValueError, match="shorter"):
        lengthy([[0, 2, 0.5]], [])
