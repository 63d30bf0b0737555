"""Recall over the movies of a test set: what is put together how, in which order, and that nothing is encoded twice."""

import json
from collections import Counter

import numpy as np
import pytest

from tasks.audio_description.metrics import neighbour_recalls, recall_over_movies, recall_within_neighbours
from tasks.audio_description.scorers import RougeL, TokenF1
from tests.parity import PARITY, needs_parity


def movie(name, length, right):
    return [
        {"movie": name, "start": float(i), "reference": f"word{i} x{i}", "generated": f"word{i if right else -i} x"}
        for i in range(length)
    ]


class Given:
    """Scores from matrices: sentence "b r 7" is reference 7 of movie b. Counts what it is asked."""

    name = "given"

    def __init__(self, matrices):
        self.matrices = matrices
        self.encoded, self.pairs = Counter(), Counter()

    def encode(self, sentences):
        self.encoded.update(sentences)
        return [(name, int(i)) for name, _, i in map(str.split, sentences)]

    def score(self, encoded, pairs):
        found = [(encoded[i], encoded[j]) for i, j in pairs]
        self.pairs.update(found)
        return np.array([self.matrices[movie][i][j] for (movie, i), (_, j) in found])

    def rows(self):
        return [
            {"movie": name, "start": float(i), "generated": f"{name} g {i}", "reference": f"{name} r {i}"}
            for name, matrix in self.matrices.items()
            for i in range(len(matrix))
        ]


@needs_parity
def test_the_mean_over_movies_and_the_mean_over_windows_equal_those_of_the_original_values():
    cases = json.loads((PARITY / "recall_within_neighbours.json").read_text())["cases"]
    case = next(case for case in cases if case["name"] == "two_movies")
    scorer = Given(dict(zip("ab", case["scores_movies"], strict=True)))
    recalls = recall_over_movies(scorer.rows(), case["topk"], case["N"], scorers=[scorer], ties="topk")
    assert recalls["R@5/16[given]"] == pytest.approx(100 * case["macro"], abs=1e-4)
    assert recalls["R@5/16[given,windows]"] == pytest.approx(100 * case["window_weighted"], abs=1e-4)
    assert set(recalls) == {"R@5/16[given]", "R@5/16[given,windows]"}


@pytest.mark.parametrize("ties", ["topk", "optimistic", "pessimistic", "expected"])
@pytest.mark.parametrize("n, k", [(16, (1, 5)), (5, (2,)), (2, (1, 2))])
def test_each_movie_equals_its_whole_score_matrix(n, k, ties):
    generator = np.random.default_rng(n)
    matrices = {
        name: generator.integers(0, 6, (length, length)) for name, length in zip("cab", (16, 37, 23), strict=True)
    }
    scorer = Given(matrices)
    rows = scorer.rows()
    generator.shuffle(rows)
    found = neighbour_recalls(rows, k, n, scorers=[scorer], ties=ties).per_movie()
    assert list(found) == ["a", "b", "c"]
    for name, matrix in matrices.items():
        expected = recall_within_neighbours(matrix.astype(float), k, n, ties)
        assert found[name] == pytest.approx({f"R@{x}/{n}[given]": 100 * expected[x] for x in k})


def test_only_pairs_within_a_window_are_scored_and_each_once():
    scorer = Given({"a": np.random.default_rng(0).random((40, 40))})
    recall_over_movies(scorer.rows(), scorers=[scorer])
    windows = [range(start, start + 16) for start in (0, 8, 16, 24)]
    wanted = {(("a", i), ("a", j)) for window in windows for i in window for j in window}
    assert scorer.pairs == Counter(wanted)


class Counting(RougeL):
    def __init__(self):
        super().__init__()
        self.seen = Counter()

    def encode(self, sentences):
        self.seen.update(sentences)
        return super().encode(sentences)


def test_no_sentence_is_encoded_twice_though_movies_references_and_answers_share_some():
    rows = [
        {"movie": name, "start": float(i), "generated": f"he nods {i % 5}", "reference": f"he nods {i % 7 + shift}"}
        for name, shift in (("a", 0), ("b", 3), ("c", 0))
        for i in range(24)
    ]
    scorer = Counting()
    recall_over_movies(rows, scorers=[scorer])
    sentences = {row[name] for row in rows for name in ("generated", "reference")}
    assert scorer.seen == Counter(sentences)


def test_equal_references_tie_exactly():
    rows = [{"movie": "a", "start": float(i), "generated": "x", "reference": "x" if i < 2 else "y"} for i in range(4)]
    for ties, expected in (("optimistic", 50), ("pessimistic", 0), ("expected", 25)):
        assert recall_over_movies(rows, (1,), 4, ties=ties)["R@1/4[rougeL]"] == pytest.approx(expected)


def test_movies_are_scored_apart_and_in_time_order():
    rows = movie("a", 16, right=True) + movie("b", 32, right=False)
    recalls = recall_over_movies(rows[::-1], k=(5,))
    of_b = recall_over_movies(movie("b", 32, right=False), k=(5,))["R@5/16[rougeL]"]
    assert recalls["R@5/16[rougeL]"] == pytest.approx((100 + of_b) / 2)
    assert recalls["R@5/16[rougeL,windows]"] == pytest.approx((100 + 3 * of_b) / 4)


def test_rows_of_one_start_are_ordered_alike_whatever_rank_they_come_from():
    generator = np.random.default_rng(3)
    words = list("abcdef")
    rows = [
        {
            "movie": "a", "start": float(i // 3), "end": float(i // 3 + 1), "ann_id": f"mad:{i}",
            "generated": " ".join(generator.choice(words, 3)), "reference": " ".join(generator.choice(words, 3)),
        }
        for i in range(33)
    ]  # fmt: skip
    expected = recall_over_movies(rows, (1,), 4)
    for ranks in (2, 3):
        assert recall_over_movies([row for rank in range(ranks) for row in rows[rank::ranks]], (1,), 4) == expected


def test_scorers_stand_side_by_side_under_their_own_names():
    rows = movie("a", 16, right=True)
    both = recall_over_movies(rows, scorers=[RougeL(), TokenF1()])
    assert both == recall_over_movies(rows) | recall_over_movies(rows, scorers=[TokenF1()])
    assert {"R@1/16[rougeL]", "R@5/16[rougeL,windows]", "R@1/16[tokenF1]", "R@5/16[tokenF1,windows]"} < set(both)


def test_one_sentence_for_every_scene_is_chance():
    rows = [row | {"generated": "someone nods"} for row in movie("a", 40, right=True)]
    for generated in ("someone nods", ""):
        recalls = recall_over_movies([row | {"generated": generated} for row in rows], scorers=[RougeL(), TokenF1()])
        for name in ("rougeL", "tokenF1"):
            assert recalls[f"R@5/16[{name}]"] == pytest.approx(31.25)


def test_short_movies_are_counted_and_named(caplog):
    rows = movie("a", 16, right=True) + movie("0010", 15, right=False) + movie("c", 1, right=False)
    found = neighbour_recalls(rows)
    assert found.total()["R@5/16[rougeL]"] == 100
    assert found.total()["R@k/16 movies skipped"] == 2
    assert found.skipped == {"0010": 15, "c": 1} and list(found.per_movie()) == ["a"]
    assert "2 of 3 movies have fewer than 16 sentences" in caplog.text and "0010 (15), c (1)" in caplog.text


def test_a_set_of_short_movies_only_has_no_recall_and_says_so(caplog):
    assert recall_over_movies(movie("b", 15, right=False)) == {"R@k/16 movies skipped": 1}
    assert "no movie has the 16 sentences" in caplog.text


class Broken(RougeL):
    name = "broken"

    def score(self, encoded, pairs):
        return np.full(len(pairs), np.nan)


@pytest.mark.parametrize(
    "change, options, message",
    [
        ({"start": float("nan")}, {}, r"row 3 \(movie a\): start must be a finite number, got nan"),
        ({"generated": None}, {}, r"row 3 \(movie a\): generated must be text, got None"),
        ({"reference": 7}, {}, r"row 3 \(movie a\): reference must be text, got 7"),
        ({}, {"scorers": [RougeL(), RougeL()]}, "a name of its own, got rougeL, rougeL"),
        ({}, {"scorers": [Broken()]}, r"scorer broken must give a finite number for each of 256 pairs; .* 256 of them"),
        ({}, {"n": 1}, "n >= 2"),
        ({}, {"k": (17,)}, "between 1 and n=16"),
        ({}, {"ties": "none"}, "unknown ties 'none'"),
    ],
)
def test_bad_input_is_named(change, options, message):
    rows = movie("a", 16, right=True)
    rows[3] |= change
    with pytest.raises(ValueError, match=message):
        recall_over_movies(rows, **options)
