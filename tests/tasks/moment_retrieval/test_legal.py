"""The data module and the evaluator agree on what is legal: nothing that is read dies at the first validation."""

import math

import numpy as np
import pytest
import torch

import eval as evaluation
import train
from datamodules.errors import DataError
from tasks.moment_retrieval.items import item_scores
from tasks.moment_retrieval.metrics import MomentMetrics, evaluate
from tasks.moment_retrieval.submission import SubmissionError
from tests.datamodules.moment_retrieval.small import (
    ANNOTATIONS,
    open_set,
    read_lines,
    write_features,
    write_lines,
    write_set,
)
from tests.tasks.moment_retrieval.literal_metrics import truth_row
from tests.tasks.moment_retrieval.test_metrics import prediction_row
from tests.tasks.moment_retrieval.test_module import trainer
from tests.tasks.moment_retrieval.trained import build

ODD = {  # what a data module reads
    "a cut last clip is relevant": dict(
        duration=31, relevant_windows=[[10, 31]], relevant_clip_ids=[5, 15], saliency_scores=[[4, 3, 2]] * 2
    ),
    "nothing matches": dict(relevant_windows=[], relevant_clip_ids=[], saliency_scores=[]),
    "a video shorter than a clip": dict(
        duration=1.9, relevant_windows=[[0, 1.9]], relevant_clip_ids=[0], saliency_scores=[[4, 4, 4]]
    ),
    "a window ends long after its video": dict(duration=24, relevant_windows=[[10, 28]], relevant_clip_ids=[]) | {
        "saliency_scores": []
    },
}  # fmt: skip


def odd_set(folder):
    write_set(folder, counts=(8, 4, 4))
    rng = np.random.default_rng(1)
    for split, name in ANNOTATIONS.items():
        base = read_lines(folder / name)
        rows = [
            {**base[0], **change, "qid": f"{split}{i}", "vid": f"{split}odd{i}"}
            for i, change in enumerate(ODD.values())
        ]
        write_features(folder, rows, rng)
        write_lines(folder / name, [*base, *rows])
    return folder


@pytest.mark.parametrize("saliency", ["annotated", "windows", "none"])
def test_everything_that_is_read_is_trained_validated_and_tested(tmp_path, saliency):
    data = open_set(odd_set(tmp_path), window_slack=5.0, saliency=saliency, max_clips=20)
    module = build(data.facts() | {"clips": 20})
    training = trainer(max_steps=2, val_check_interval=1)
    training.fit(module, datamodule=data)
    training.test(module, datamodule=data, verbose=False)
    assert 0 <= module.test_metrics["mAP"] <= 100 and ("HIT@1" in module.test_metrics) == (saliency != "none")
    assert len(module.predictions) == 8
    scores = item_scores(module.predictions)["mAP"]
    assert len(scores) == 7 and sum(scores.values()) / 7 == pytest.approx(module.test_metrics["mAP"], abs=0.006)
    assert "constant" in module.reference_scores(data)


def odd_rows():
    """The odd rows as the evaluator gets them, without those that it refuses unless it is told otherwise."""
    return [truth_row() | change | {"qid": i, "vid": f"v{i}"} for i, change in enumerate(ODD.values())]


def predictions(rows):
    return [prediction_row(row["qid"], pred_saliency_scores=[1.0] * max(1, int(row["duration"] / 2))) for row in rows]


def test_the_evaluator_counts_a_cut_last_clip_and_a_video_shorter_than_a_clip():
    rows = [odd_rows()[0], odd_rows()[2]]
    answers = [
        {"qid": 0, "pred_relevant_windows": [[10, 31, 1.0]], "pred_saliency_scores": [0.0] * 15 + [9.0]},
        {"qid": 2, "pred_relevant_windows": [[0, 1.9, 1.0]], "pred_saliency_scores": [1.0]},
    ]
    metrics = evaluate(answers, rows)
    assert metrics["full"]["MR-mAP"]["average"] == metrics["HL-min-VeryGood"]["HL-Hit1"] == 100


def test_what_the_evaluator_refuses_is_told_at_once_and_can_be_left_out():
    rows = odd_rows()
    with pytest.raises(SubmissionError) as stop:
        evaluate(predictions(rows), rows)
    assert "row 1 (qid 1, vid 'v1'): relevant_windows is empty" in str(stop.value)
    assert "row 3 (qid 3, vid 'v3'): true window [10.0, 28.0] lies outside the video" in str(stop.value)
    assert "2 defects" in str(stop.value) and "unmatched=skip" in str(stop.value)
    found = evaluate(predictions(rows), rows, unmatched="skip", window_slack=4.0)
    assert found["left_out"] == {"unmatched": 1}
    found = evaluate(predictions(rows), rows, unmatched="skip", defects="drop")
    assert found["left_out"] == {"defective": 1, "unmatched": 1}
    found = evaluate(predictions(rows), rows, unmatched="skip", defects="clip")
    assert found["left_out"] == {"cut": 1, "unmatched": 1}


def test_a_clipped_window_is_scored_as_it_was_cut():
    truth = [truth_row(relevant_windows=[[10, 5000]])]
    answer = [prediction_row(pred_relevant_windows=[[10, 20, 1.0]])]
    assert evaluate(answer, truth, defects="clip")["full"]["MR-mAP"]["average"] == 100
    assert truth[0]["relevant_windows"] == [[10, 5000]]


def test_queries_without_a_prediction_are_refused_or_left_out_with_their_number():
    truth = [truth_row(1), truth_row(2), truth_row(3)]
    with pytest.raises(SubmissionError, match="1 queries of the ground truth have no prediction"):
        evaluate([prediction_row(1), prediction_row(3)], truth)
    found = evaluate([prediction_row(1), prediction_row(3)], truth, missing="skip")
    assert found["left_out"] == {"missing": 1} and found["full"]["MR-mAP"]["average"] == 100
    with pytest.raises(SubmissionError, match="predictions in the submission are for no query"):
        evaluate([prediction_row(1), prediction_row(9)], truth, missing="skip")
    with pytest.raises(SubmissionError, match="has no queries"):
        evaluate([], truth, missing="skip")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"defects": "cut"}, "defects must be one of stop, clip, drop, got 'cut'"),
        ({"unmatched": "drop"}, "unmatched must be one of stop, skip"),
        ({"missing": None}, "missing must be one of"),
        ({"window_slack": math.nan}, "window_slack must be seconds from 0"),
    ],
)
def test_options_out_of_their_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate([prediction_row()], [truth_row()], **options)
    if {"unmatched", "window_slack"} & options.keys():
        with pytest.raises(ValueError, match=message):
            MomentMetrics(**options)


def test_a_submission_error_never_has_a_stack_trace(monkeypatch):
    assert issubclass(SubmissionError, train.EXPLAINED)

    def refuse(words):
        raise SubmissionError("the submission: qid 1")

    monkeypatch.setattr(evaluation, "run_words", refuse)
    with pytest.raises(SystemExit, match="the submission: qid 1"):
        evaluation.main(["run=x"])


def test_ground_truth_that_cannot_be_scored_stops_before_the_run(tmp_path):
    folder = odd_set(tmp_path)
    with pytest.raises(DataError, match=r"window \[10, 28\] is outside the video, which has 24 s"):
        open_set(folder, window_slack=2.0)


def test_saliency_of_a_cut_last_clip_is_a_whole_curve():
    module = build()
    batch = {"annotation": [odd_rows()[0]], "video_keep": torch.ones(1, 14, dtype=torch.bool)}
    outputs = {"logits": torch.zeros(1, 1, 2), "spans": torch.tensor([[[0.5, 1.0]]]), "saliency": torch.zeros(1, 14)}
    (row,) = module.rows(outputs, batch)
    assert len(row["pred_saliency_scores"]) == 16
