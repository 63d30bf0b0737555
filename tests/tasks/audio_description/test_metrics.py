"""Recall within neighbours of one movie, against the original's values and a slow loop."""

import json

import numpy as np
import pytest
import torch

from tasks.audio_description.metrics import TIES, recall_within_neighbours
from tests.parity import PARITY, needs_parity


def parity_cases():
    return json.loads((PARITY / "recall_within_neighbours.json").read_text())["cases"]


@needs_parity
def test_recall_equals_the_original_on_square_finite_cases_and_refuses_all_others():
    equal, refused = set(), set()
    for case in parity_cases():
        if "scores_movies" in case:
            continue  # test_metrics_movies.py
        # the case of a NaN on the diagonal stores no scores
        scores = np.full((16, 16), np.nan) if case["scores"] is None else np.array(case["scores"])
        if "expected" in case and scores.shape[0] == scores.shape[1] and np.isfinite(scores).all():
            recalls = recall_within_neighbours(scores, k=case["topk"], n=case["N"])
            assert [recalls[k] for k in case["topk"]] == pytest.approx(case["expected"], abs=1e-6), case["name"]
            equal.add(case["name"])
        else:
            with pytest.raises(ValueError):
                recall_within_neighbours(scores, k=case["topk"], n=case["N"])
            refused.add(case["name"])
    assert refused == {"n_less_than_N", "topk_gt_N", "N1", "more_gen_than_gt", "gen24_gt18", "nan_diag"}
    assert len(equal) == 6 and "ties_constant" in equal


@needs_parity
def test_every_movie_of_the_case_of_two_movies_equals_the_original():
    case = next(case for case in parity_cases() if case["name"] == "two_movies")
    for scores, expected in zip(case["scores_movies"], case["per_movie"], strict=True):
        recalls = recall_within_neighbours(scores, k=case["topk"], n=case["N"])
        assert [recalls[k] for k in case["topk"]] == pytest.approx(expected, abs=1e-6)


def slow_recall(scores, k, n):
    """One sentence at a time; `order` as a sort has it, so without a meaning for ties."""
    windows = []
    for start in range(0, len(scores) - n + 1, n // 2):
        hits = 0
        for row in range(start, start + n):
            order = sorted(range(start, start + n), key=lambda column: -scores[row][column])
            hits += row in order[:k]
        windows.append(hits / n)
    return sum(windows) / len(windows)


@pytest.mark.parametrize("length, n", [(2, 2), (3, 2), (16, 16), (17, 16), (23, 16), (24, 16), (40, 7)])
@pytest.mark.parametrize("ties", TIES)
def test_recall_equals_a_slow_loop(length, n, ties):
    scores = np.random.default_rng(length).random((length, length))
    for k in {1, 2, n}:
        ours = recall_within_neighbours(scores, k=(k,), n=n, ties=ties)[k]
        assert ours == pytest.approx(slow_recall(scores, k, n))


def windows_by_topk(scores, k, n):
    """A window at a time, by torch.topk on its own block: the published procedure."""
    shares = []
    for start in range(0, len(scores) - n + 1, n // 2):
        best = torch.topk(scores[start : start + n, start : start + n], max(k), dim=1).indices
        own = torch.arange(n)[:, None]
        shares.append([float((best[:, :x] == own).any(1).double().mean()) for x in k])
    return np.array(shares).mean(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("n, k", [(16, (1, 5)), (5, (1, 2, 5)), (128, (1, 2))])  # topk sorts or selects, by k / n
def test_ties_topk_is_the_order_of_topk_on_each_window_alone(dtype, n, k):
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        scores = torch.randint(0, 3, (3 * n + 1,) * 2, generator=generator).to(dtype)
        ours = recall_within_neighbours(scores, k=k, n=n, ties="topk")
        assert [ours[x] for x in k] == pytest.approx(windows_by_topk(scores, k, n).tolist(), abs=1e-12)


def test_ties():
    constant = np.zeros((16, 16))
    expected = {"optimistic": 1.0, "pessimistic": 0.0, "expected": 5 / 16}
    for ties, value in expected.items():
        assert recall_within_neighbours(constant, k=(5,), ties=ties)[5] == pytest.approx(value)
    scores = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert recall_within_neighbours(scores, k=(1,), n=3, ties="expected")[1] == pytest.approx((0.5 + 0 + 1) / 3)
    assert recall_within_neighbours(scores, k=(2,), n=3, ties="expected")[2] == pytest.approx((1 + 0.5 + 1) / 3)


def test_expected_ties_are_the_mean_over_random_orders():
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 3, (8, 8)).astype(float)
    broken = [slow_recall(scores + 1e-6 * generator.random((8, 8)), 3, 4) for _ in range(3000)]
    assert recall_within_neighbours(scores, k=(3,), n=4, ties="expected")[3] == pytest.approx(np.mean(broken), abs=5e-3)


def test_pessimistic_topk_and_optimistic_stand_in_this_order():
    scores = np.random.default_rng(1).integers(0, 4, (40, 40))
    low, middle, high = (recall_within_neighbours(scores, ties=t)[5] for t in ("pessimistic", "topk", "optimistic"))
    assert low < middle < high


@pytest.mark.parametrize(
    "scores, options, message",
    [
        (np.zeros((3, 3)), dict(n=1, k=(1,)), "n >= 2"),
        (np.zeros((3, 3)), dict(n=2.0, k=(1,)), "n >= 2"),
        (np.zeros((4, 4)), dict(n=4, k=(5,)), "between 1 and n=4"),
        (np.zeros((4, 4)), dict(n=4, k=(0,)), "between 1 and n=4"),
        (np.zeros((4, 4)), dict(n=4, k=()), "between 1 and n=4"),
        (np.zeros((4, 4)), dict(n=4, k=2), "between 1 and n=4, got k=2"),
        (np.zeros((4, 4)), dict(n=4, k=(1.5,)), "whole number"),
        (np.zeros((20, 16)), {}, r"\(M generated, M references\), got \(20, 16\)"),
        (np.zeros(16), {}, r"\(M generated, M references\), got \(16,\)"),
        (np.zeros((10, 10)), {}, "10 sentences is shorter than the window of n=16"),
        (np.full((16, 16), np.nan), {}, "NaN"),
        (np.full((16, 16), np.inf), {}, "infinite"),
        (np.zeros((16, 16)), dict(ties="random"), "unknown ties 'random'; allowed: topk"),
    ],
)
def test_bad_input_is_named(scores, options, message):
    with pytest.raises(ValueError, match=message):
        recall_within_neighbours(scores, **options)
