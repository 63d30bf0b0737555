"""Recall within neighbours against the original's values, and its offline scorer against pycocoevalcap."""

import json

import numpy as np
import pytest
from pycocoevalcap.rouge.rouge import Rouge

from tasks.audio_description.metrics import recall_over_movies, recall_within_neighbours, rouge_l_matrix
from tests.parity import PARITY, needs_parity


@needs_parity
def test_recall_equals_the_original_on_square_cases():
    cases = json.loads((PARITY / "recall_within_neighbours.json").read_text())["cases"]
    checked = 0
    for case in cases:
        scores = case.get("scores")
        if scores is None or "expected" not in case or len(scores) != len(scores[0]):
            continue
        recalls = recall_within_neighbours(scores, k=case["topk"], n=case["N"])
        assert [recalls[k] for k in case["topk"]] == pytest.approx(case["expected"], abs=1e-6), case["name"]
        checked += 1
    assert checked >= 6


def slow_recall(scores, k, n):
    """One sentence at a time."""
    windows = []
    for start in range(0, len(scores) - n + 1, n // 2):
        hits = 0
        for row in range(start, start + n):
            order = sorted(range(start, start + n), key=lambda column: -scores[row][column])
            hits += row in order[:k]
        windows.append(hits / n)
    return sum(windows) / len(windows)


@pytest.mark.parametrize("length, n", [(2, 2), (3, 2), (16, 16), (17, 16), (23, 16), (24, 16), (40, 7)])
@pytest.mark.parametrize("ties", ["topk", "optimistic", "pessimistic", "expected"])
def test_recall_equals_a_slow_loop(length, n, ties):
    scores = np.random.default_rng(length).random((length, length))
    for k in {1, 2, n}:
        ours = recall_within_neighbours(scores, k=(k,), n=n, ties=ties)[k]
        assert ours == pytest.approx(slow_recall(scores, k, n))


def test_ties():
    constant = np.zeros((16, 16))
    expected = {"optimistic": 1.0, "pessimistic": 0.0, "expected": 5 / 16}
    for ties, value in expected.items():
        assert recall_within_neighbours(constant, k=(5,), ties=ties)[5] == pytest.approx(value)
    scores = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert recall_within_neighbours(scores, k=(1,), n=3, ties="expected")[1] == pytest.approx((0.5 + 0 + 1) / 3)
    assert recall_within_neighbours(scores, k=(2,), n=3, ties="expected")[2] == pytest.approx((1 + 0.5 + 1) / 3)


@pytest.mark.parametrize(
    "scores, options, message",
    [
        (np.zeros((3, 3)), dict(n=1, k=(1,)), "n >= 2"),
        (np.zeros((4, 4)), dict(n=4, k=(5,)), "between 1 and n=4"),
        (np.zeros((4, 4)), dict(n=4, k=(0,)), "between 1 and n=4"),
        (np.zeros((4, 4)), dict(n=4, k=()), "between 1 and n=4"),
        (np.zeros((20, 16)), {}, r"\(M generated, M references\), got \(20, 16\)"),
        (np.zeros((10, 10)), {}, "10 sentences is shorter than the window of n=16"),
        (np.full((16, 16), np.nan), {}, "NaN"),
        (np.full((16, 16), np.inf), {}, "infinite"),
        (np.zeros((16, 16)), dict(ties="random"), "unknown ties 'random'; allowed: topk"),
    ],
)
def test_bad_input_is_named(scores, options, message):
    with pytest.raises(ValueError, match=message):
        recall_within_neighbours(scores, **options)


def test_rouge_l_equals_pycocoevalcap():
    generator = np.random.default_rng(0)
    words = list("abcdef")
    sentences = [" ".join(generator.choice(words, size)) for size in (1, 2, 3, 5, 8, 13)]
    ours = rouge_l_matrix(sentences, sentences[::-1])
    for i, generated in enumerate(sentences):
        for j, reference in enumerate(sentences[::-1]):
            assert ours[i, j] == pytest.approx(Rouge().calc_score([generated], [reference]))


def test_rouge_l_of_empty_sentences_is_zero():
    assert rouge_l_matrix(["", "a b"], ["a b", ""]).tolist() == [[0.0, 0.0], [1.0, 0.0]]


def movie(name, length, right):
    return [
        {"movie": name, "start": float(i), "reference": f"word{i} x{i}", "generated": f"word{i if right else -i} x"}
        for i in range(length)
    ]


def test_movies_are_scored_apart_and_in_time_order():
    rows = movie("a", 16, right=True) + movie("b", 32, right=False)
    recalls = recall_over_movies(rows[::-1], k=(5,))
    of_b = recall_over_movies(movie("b", 32, right=False), k=(5,))["R@5/16[rougeL]"]
    assert recalls["R@5/16[rougeL]"] == pytest.approx((100 + of_b) / 2)
    assert recalls["R@5/16[rougeL,windows]"] == pytest.approx((100 + 3 * of_b) / 4)


def test_short_movies_are_counted_not_hidden():
    recalls = recall_over_movies(movie("a", 16, right=True) + movie("b", 15, right=False))
    assert recalls["R@5/16[rougeL]"] == 100
    assert recalls["R@k/16 movies skipped"] == 1


def test_a_set_of_short_movies_only_has_no_recall_and_says_so(caplog):
    assert recall_over_movies(movie("b", 15, right=False)) == {"R@k/16 movies skipped": 1}
    assert "no movie has the 16 sentences" in caplog.text
