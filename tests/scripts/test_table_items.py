"""Scores of single test items: by hand, and their mean is the run's metric or they are not used."""

import json

import numpy as np
import pytest

from scripts.table.items import Items
from tasks.audio_description import items as descriptions
from tasks.image_classification import items as images
from tasks.moment_retrieval import items as moments
from tasks.moment_retrieval.scores import evaluate
from tasks.video_captioning import items as captions


def test_sentences_images_and_captions_are_right_or_wrong():
    rows = [{"ann_id": 7, "generated": "a 3", "reference": "a 3"}, {"ann_id": 8, "generated": "", "reference": "b"}]
    assert descriptions.item_scores(rows) == {"exact": {"7": 100.0, "8": 0.0}}
    rows = [{"name": "x", "label": 1, "predicted": 1}, {"name": "y", "label": 1, "predicted": 2}]
    assert images.item_scores(rows) == {"top1": {"x": 100.0, "y": 0.0}}
    rows = [{"video": "v", "generated": "b", "references": ["a", "b"]}]
    assert captions.item_scores(rows) == {"exact": {"v": 100.0}}


def test_the_mean_over_queries_is_the_benchmark_s_map():
    generator = np.random.default_rng(0)
    rows = []
    for qid in range(7):
        start = generator.uniform(0, 20, size=(3, 1))
        predicted = np.hstack([start, start + generator.uniform(2, 20, size=(3, 1)), generator.random((3, 1))])
        rows.append({"qid": qid, "vid": "v", "duration": 40, "relevant_windows": [[4, 14], [20, 30]],
                     "pred_relevant_windows": predicted.tolist()})  # fmt: skip
    found = moments.item_scores(rows)["mAP"]
    assert len(found) == 7 and len(set(found.values())) > 1
    wanted = evaluate(rows, rows, decimals=None)["brief"]["MR-full-mAP"]
    assert sum(found.values()) / 7 == pytest.approx(wanted)
    assert moments.item_scores([{"qid": 1, "pred_relevant_windows": [[0, 1, 1]]}]) == {}


@pytest.fixture
def run_of(tmp_path):
    """`run_of("a", [True, False])`: a run with those sentences right, and its metric."""

    def run(name, right, exact=None):
        path = tmp_path / name / "predictions" / "test.jsonl"
        path.parent.mkdir(parents=True)
        rows = [{"ann_id": i, "generated": "ab"[one], "reference": "b"} for i, one in enumerate(right)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        exact = 100 * sum(right) / len(right) if exact is None else exact
        return {"folder": tmp_path / name, "metrics": {"exact": exact, "cider": 3.0}}

    return run


def test_a_difference_is_of_common_seeds_and_items(run_of):
    runs = {
        0: run_of("a0", [True, True, False, True]),
        1: run_of("a1", [True, True, True, True]),
        5: run_of("a5", [True]),
    }
    others = {0: run_of("b0", [False, False, False, False]), 1: run_of("b1", [False, False, False])}
    found = Items("audio_description").interval(runs, others, "exact")
    (low, high), seeds, items = found
    assert (seeds, items) == (2, 3)
    assert low < 100 * 5 / 6 <= high


def test_what_is_no_mean_over_items_has_no_interval(run_of):
    good, other = run_of("a", [True, False]), run_of("b", [True, True], exact=51.0)
    items = Items("audio_description")
    assert items.of(good, "exact") == {"0": 100.0, "1": 0.0}
    assert items.of(good, "cider") == {}
    assert items.of(other, "exact") == {}, "these predictions do not have the record's score"
    assert items.of({"folder": None, "metrics": {"exact": 50.0}}, "exact") == {}, "a row of a csv file"
    assert items.interval({0: good}, {0: good}, "exact") is None, "one seed"
    assert Items("no_such_task").of(good, "exact") == {}
