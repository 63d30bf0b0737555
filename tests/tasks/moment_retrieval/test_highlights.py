"""Highlights alone: the metric against a literal loop, and a model that is trained and tested on labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.moment_retrieval.highlights import evaluate_labels
from tasks.moment_retrieval.scores import headline
from tasks.moment_retrieval.submission import SubmissionError
from tests.datamodules.moment_retrieval.small import open_set
from tests.datamodules.moment_retrieval.test_official import TVSUM, labelled
from tests.tasks.moment_retrieval.test_module import trainer
from tests.tasks.moment_retrieval.trained import build


def literal(rows, top, positive):
    """One rater and one clip at a time, from the protocol's words."""
    found = []
    for scores, labels in rows:
        scores = list(scores) + [min(scores)] * max(0, len(labels) - len(scores))
        ranked = sorted(range(len(labels)), key=lambda clip: (-scores[clip], clip))
        for rater in range(len(labels[0])):
            given_scores = [clip[rater] for clip in labels]
            bar = sorted(given_scores)[(len(labels) - 1) // 2] if positive == "median" else 0
            hits = [given_scores[clip] > bar for clip in ranked][:top]
            area, recall, precision = 0.0, 0.0, 1.0
            for place in range(len(hits)):
                if sum(hits):
                    now = sum(hits[: place + 1]) / sum(hits), sum(hits[: place + 1]) / (place + 1)
                    area += (now[0] - recall) * (now[1] + precision) / 2
                    recall, precision = now
            found.append(area)
    return 100 * sum(found) / len(found)


@st.composite
def videos(draw):
    raters, rows = draw(st.integers(1, 4)), []
    for _ in range(draw(st.integers(1, 3))):
        clips = draw(st.integers(1, 9))
        labels = [[draw(st.integers(0, 4)) for _ in range(raters)] for _ in range(clips)]
        rows.append((draw(st.lists(st.integers(-3, 3), min_size=1, max_size=11)), labels))
    return rows


@settings(max_examples=80, deadline=None)
@given(videos(), st.sampled_from([None, 1, 5]), st.sampled_from(["median", "lowest"]))
def test_random_scores_equal_the_literal_protocol(rows, top, positive):
    submission = [{"qid": i, "pred_saliency_scores": scores} for i, (scores, _) in enumerate(rows)]
    truth = [{"qid": i, "vid": "v", "label": labels} for i, (_, labels) in enumerate(rows)]
    found = evaluate_labels(submission, truth, top=top, positive=positive, decimals=None)
    assert found["brief"]["HD mAP"] == pytest.approx(literal(rows, top, positive), abs=1e-9)


def one(scores, labels, **options):
    truth = [{"qid": 1, "vid": "v", "label": [[label] for label in labels]}]
    return headline(evaluate_labels([{"qid": 1, "pred_saliency_scores": scores}], truth, **options))


def test_small_cases_by_hand():
    assert one([3, 2, 1], [1, 1, 0]) == {"HD mAP": 100}
    assert one([3, 2, 1], [0, 0, 0]) == {"HD mAP": 0}
    assert one([3, 2], [0, 1]) == {"HD mAP": 25}  # from recall 0 to 1, precision between 0 and a half
    assert one([9, 8, 7, 6, 5, 4], [0, 0, 0, 0, 0, 1], top=5) == {"HD mAP": 0}
    assert one([1, 2, 3], [3, 4, 5], positive="median") == {"HD mAP": 100}  # above the median of 3, 4, 5: the last one


@pytest.mark.parametrize(
    "answer, truth, message",
    [
        ({"qid": 1, "pred_saliency_scores": []}, {"qid": 1, "label": [[1]]}, "pred_saliency_scores is empty"),
        ({"qid": 1, "pred_saliency_scores": [float("nan")]}, {"qid": 1, "label": [[1]]}, "not finite"),
        ({"qid": 1}, {"qid": 1, "label": [[1]]}, "has no key 'pred_saliency_scores'"),
        ({"qid": 1, "pred_saliency_scores": [1]}, {"qid": 1, "label": [1, 2]}, "label must be a list, each entry"),
        ({"qid": 2, "pred_saliency_scores": [1]}, {"qid": 1, "label": [[1]]}, "have no prediction"),
    ],
)
def test_what_cannot_be_scored_is_named(answer, truth, message):
    with pytest.raises(SubmissionError, match=message):
        evaluate_labels([answer], [truth])


def test_a_model_is_trained_and_tested_on_labels_alone(tmp_path):
    data = open_set(labelled(tmp_path), batch_size=2, **TVSUM)
    off = {"span": 0.0, "giou": 0.0, "label": 0.0}
    module = build(data.facts(), losses=off)
    training = trainer(max_steps=2, val_check_interval=1)
    training.fit(module, datamodule=data)
    training.test(module, datamodule=data, verbose=False)
    assert set(module.test_metrics) == {"HD mAP", "test_loss", "train_loss"}
    rows = [(row["pred_saliency_scores"], row["label"]) for row in module.predictions]
    assert module.test_metrics["HD mAP"] == pytest.approx(literal(rows, 5, "median"), abs=0.006)
    assert all(row["pred_relevant_windows"] == [] for row in module.predictions)
    assert set(module.reference_scores(data)["constant"]) == {"HD mAP"}
    assert np.isfinite(module.test_metrics["test_loss"])
