"""Moment and highlight metrics against the benchmark's stored figures, a literal implementation and scikit-learn."""

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve

from tasks.common.files import read_jsonl
from tasks.moment_retrieval.metrics import MomentMetrics, evaluate, headline
from tasks.moment_retrieval.scores import ranking_precision
from tests.parity import QVHIGHLIGHTS, needs_qvhighlights
from tests.tasks.moment_retrieval.literal_metrics import literal_evaluate, truth_row


@pytest.fixture(scope="module")
def sample():
    files = ("sample_val_preds.jsonl", "highlight_val_release.jsonl")
    return [read_jsonl(QVHIGHLIGHTS / name) for name in files]


@pytest.fixture(scope="module")
def official():
    return json.loads((QVHIGHLIGHTS / "sample_val_preds_metrics_raw.json").read_text())


@needs_qvhighlights
def test_sample_predictions_equal_the_official_metrics_in_every_field_and_their_order(sample, official):
    assert json.dumps(evaluate(*sample)) == json.dumps(official)


@needs_qvhighlights
def test_order_of_the_rows_does_not_matter(sample, official):
    submission, truth = sample
    assert evaluate(submission[::-1], truth[700:] + truth[:700]) == official


@pytest.mark.slow
@needs_qvhighlights
def test_the_literal_implementation_equals_the_official_metrics(sample, official):
    def rounded(value):
        return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else round(value, 2)

    assert rounded(literal_evaluate(*sample)) == official


@needs_qvhighlights
def test_inputs_are_left_as_they_were(sample):
    rows = [copy.deepcopy(list(part[:20])) for part in sample]
    ours = copy.deepcopy(rows)
    evaluate(*ours)
    assert ours == rows


@needs_qvhighlights
def test_the_truth_of_the_test_split_as_a_submission_finds_every_moment():
    truth = read_jsonl(QVHIGHLIGHTS / "highlight_test_with_gt.jsonl")
    rows = []
    for row in truth:
        saliency = [0.0] * (row["duration"] // 2)
        for clip, ratings in zip(row["relevant_clip_ids"], row["saliency_scores"], strict=True):
            saliency[clip] = max(ratings)
        windows = [[*window, 1.0] for window in row["relevant_windows"]]
        rows.append({"qid": row["qid"], "pred_relevant_windows": windows, "pred_saliency_scores": saliency})
    metrics = evaluate(rows, truth, max_windows=20)
    assert set(metrics["full"]["MR-R1"].values()) == set(metrics["full"]["MR-mAP"].values()) == {100.0}
    with_best = sum(max(map(max, row["saliency_scores"])) == 4 for row in truth)
    assert metrics["HL-min-VeryGood"]["HL-Hit1"] == pytest.approx(100 * with_best / len(truth), abs=0.005)
    assert evaluate(rows, truth)["full"]["MR-mAP"]["0.5"] < 100  # some queries have more than ten moments


# -- random submissions -----------------------------------------------------------------------------------------------

coarse = st.integers(0, 8).map(lambda x: x / 4)  # equal scores, IoU exactly on a threshold
fine = st.floats(-3, 3, allow_nan=False)


@st.composite
def windows(draw, duration, scored, margin, size):
    time = draw(st.sampled_from([st.integers(-margin, duration + margin), st.floats(-margin, duration + margin)]))
    pairs = draw(st.lists(st.tuples(time, time), **size))
    if scored:
        score = draw(st.sampled_from([coarse, fine]))
        return [[min(pair), max(pair), draw(score)] if draw(st.booleans()) else [*pair, draw(score)] for pair in pairs]
    return [sorted(pair) for pair in pairs]


@st.composite
def cases(draw):
    saliency, annotators = draw(st.booleans()), draw(st.integers(1, 3))
    submission, truth = [], []
    for qid in range(draw(st.integers(1, 5))):
        duration = draw(st.sampled_from([2, 3, 5, 14, 40, 150]))
        clips = duration // 2
        row = {"qid": qid, "vid": f"v{qid}", "duration": duration}
        row["relevant_windows"] = draw(windows(duration, False, 2, {"min_size": 1, "max_size": 5}))
        prediction = {"qid": qid, "vid": f"v{qid}"}
        prediction["pred_relevant_windows"] = draw(windows(duration, True, 5, {"max_size": 13}))
        if saliency:
            clip_ids = st.lists(st.integers(0, clips - 1), unique=True, max_size=6)
            row["relevant_clip_ids"] = draw(clip_ids)
            ratings = st.lists(st.integers(0, 4), min_size=annotators, max_size=annotators)
            row["saliency_scores"] = [draw(ratings) for _ in row["relevant_clip_ids"]]
            values = draw(st.sampled_from([coarse, fine]))
            length = draw(st.integers(max(1, clips - 1), clips + 2))
            prediction["pred_saliency_scores"] = draw(st.lists(values, min_size=length, max_size=length))
        truth.append(row)
        submission.append(prediction)
    return draw(st.permutations(submission)), truth


def flat(value, path=""):
    if isinstance(value, dict):
        return {key: leaf for name, item in value.items() for key, leaf in flat(item, f"{path}/{name}").items()}
    return {path: value}


@settings(max_examples=150, deadline=None)
@given(
    cases(),
    st.integers(1, 12),
    st.sampled_from([{"short": (0, 10), "middle": (10, 30), "long": (30, 150)}, {"a": (0, 4), "z": (2, 9)}, {}]),
)
def test_random_submissions_equal_the_literal_implementation(case, max_windows, lengths):
    ours = flat(evaluate(*case, max_windows=max_windows, lengths=lengths, decimals=None))
    literal = flat(literal_evaluate(*case, max_windows=max_windows, lengths=lengths))
    assert list(ours) == list(literal)
    assert ours == pytest.approx(literal, abs=1e-9)
    assert all(math.isfinite(value) and 0 <= value <= 100 + 1e-9 for value in ours.values())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.one_of(coarse, fine), st.booleans()), min_size=1, max_size=75))
def test_ranking_precision_is_the_mean_over_scikit_learns_recalls(clips):
    scores, labels = (np.array(values) for values in zip(*clips, strict=True))
    ours = ranking_precision(scores[None], np.ones((1, len(scores)), bool), labels[None, :, None])[0, 0]
    if not labels.any():
        assert ours == 0
        return
    precision, recall, _ = precision_recall_curve(labels, scores)
    levels = [precision[recall >= level].max() for level in np.unique(recall[:-1]) if level > 0]
    assert ours == pytest.approx(np.mean(levels))


# -- small cases by hand ----------------------------------------------------------------------------------------------


def prediction_row(qid=1, **changes):
    row = {"qid": qid, "pred_relevant_windows": [[0, 8, 0.9]], "pred_saliency_scores": [1.0] * 4 + [0.0] * 6}
    return row | changes


def without(row, *keys):
    return {name: value for name, value in row.items() if name not in keys}


def only_moments(row):
    return without(row, "relevant_clip_ids", "saliency_scores", "pred_saliency_scores")


def test_r1_reads_the_first_listed_window_and_map_the_scores():
    prediction = prediction_row(pred_relevant_windows=[[10, 20, 0.1], [0, 8, 0.9]])
    full = evaluate([prediction], [truth_row()])["full"]
    assert full["MR-R1"]["0.5"] == 0
    assert full["MR-mAP"]["0.5"] == 100


def test_windows_are_cut_before_they_are_sorted():
    prediction = prediction_row(pred_relevant_windows=[[10, 20, 0.1]] * 10 + [[0, 8, 0.9]])
    assert evaluate([prediction], [truth_row()])["full"]["MR-mAP"]["0.5"] == 0
    assert evaluate([prediction], [truth_row()], max_windows=11)["full"]["MR-mAP"]["0.5"] == 100


def test_an_empty_list_scores_zero_and_stays_in_the_mean():
    predictions = [prediction_row(1, pred_relevant_windows=[]), prediction_row(2)]
    full = evaluate(predictions, [truth_row(1), truth_row(2)])["full"]
    assert full["MR-R1"]["0.5"] == full["MR-mAP"]["average"] == 50


def test_windows_of_length_zero_score_zero():
    predictions, truth = [prediction_row(pred_relevant_windows=[[4, 4, 1.0]])], [truth_row(relevant_windows=[[4, 4]])]
    metrics = evaluate(predictions, truth)
    assert metrics["full"]["MR-R1"]["0.5"] == metrics["full"]["MR-mAP"]["average"] == 0
    assert "short" not in metrics and "MR-short-mAP" not in metrics["brief"]


def test_one_true_window_is_found_once():
    prediction = prediction_row(pred_relevant_windows=[[0, 8, 0.9], [0, 8, 0.8], [10, 20, 0.7]])
    truth = truth_row(relevant_windows=[[0, 8], [10, 20]])
    assert evaluate([prediction], [truth], decimals=None)["full"]["MR-mAP"]["0.5"] == pytest.approx(50 + 50 * 2 / 3)


def test_of_true_windows_with_equal_iou_the_last_is_taken():
    truth = truth_row(relevant_windows=[[0, 12], [8, 20]])  # both have IoU 0.5 with [4, 16]
    for left, precision in (([0, 12], 100), ([8, 20], 50)):
        prediction = prediction_row(pred_relevant_windows=[[4, 16, 0.9], [*left, 0.8]])
        assert evaluate([prediction], [truth])["full"]["MR-mAP"]["0.5"] == precision


def test_a_saliency_list_one_clip_short_counts_the_last_clip_as_zero():
    truth = truth_row(relevant_clip_ids=[9], saliency_scores=[[4, 4, 4]])
    scores = [-1.0] * 9
    assert evaluate([prediction_row(pred_saliency_scores=scores)], [truth])["HL-min-Fair"] == {
        "HL-mAP": 100,
        "HL-Hit1": 0,  # the first of the listed ones
    }


def test_a_best_clip_behind_the_video_is_no_hit():
    prediction = prediction_row(pred_saliency_scores=[1.0] * 4 + [0.0] * 6 + [5.0])
    assert evaluate([prediction], [truth_row()])["HL-min-Fair"] == {"HL-mAP": 100, "HL-Hit1": 0}


def test_clip_length_is_an_option():
    truth = truth_row(duration=0.6, relevant_windows=[[0, 0.6]], relevant_clip_ids=[2], saliency_scores=[[4]])
    prediction = prediction_row(pred_saliency_scores=[0, 0, 1])
    assert evaluate([prediction], [truth], clip_length=0.2)["HL-min-VeryGood"]["HL-Hit1"] == 100


def test_ground_truth_without_saliency_gives_moments_only():
    metrics = evaluate([prediction_row()], [only_moments(truth_row())])
    assert list(metrics) == ["brief", "full", "short"]
    assert headline(metrics) == {
        **dict.fromkeys(["R1@0.5", "R1@0.7", "mAP@0.5", "mAP@0.75", "mAP"], 100),
        "mAP short": 100,
    }


def test_a_submission_without_saliency_gives_moments_only_and_says_so(caplog):
    metrics = evaluate([only_moments(prediction_row())], [truth_row()])
    assert not [name for name in metrics if name.startswith("HL")]
    assert "has no pred_saliency_scores: highlight detection is not scored" in caplog.text


def test_headline_names_the_figures_of_papers():
    predictions = [prediction_row(1), prediction_row(2, pred_relevant_windows=[[0, 40, 1.0]])]
    truths = [truth_row(1), truth_row(2, duration=60, relevant_windows=[[0, 20], [25, 60]])]
    truths[1] |= {"relevant_clip_ids": [29], "saliency_scores": [[4, 4, 4]]}
    predictions[1]["pred_saliency_scores"] = [0.0] * 30
    metrics = evaluate(predictions, truths)
    short = headline(metrics)
    assert list(short) == [
        *("R1@0.5", "R1@0.7", "mAP@0.5", "mAP@0.75", "mAP", "HIT@1", "HD mAP"),
        *("mAP short", "mAP middle", "mAP long"),
    ]
    assert short["HIT@1"] == metrics["HL-min-VeryGood"]["HL-Hit1"] == 50
    assert short["HD mAP"] == metrics["HL-min-VeryGood"]["HL-mAP"]
    assert short["mAP middle"] == metrics["middle"]["MR-mAP"]["average"]
    assert short["R1@0.7"] == metrics["full"]["MR-R1"]["0.7"] == 50


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(clip_length=0), "clip_length must be seconds above 0, got 0"),
        (dict(clip_length=math.nan), "clip_length"),
        (dict(max_windows=0), "max_windows must be an integer from 1, got 0"),
        (dict(max_windows=2.5), "max_windows"),
        (dict(decimals=-1), "decimals"),
        (dict(lengths={"short": (10, 0)}), r"lengths\['short'\] must be \(above, up to\)"),
        (dict(lengths={"full": (0, 10)}), "a part of that name"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate([prediction_row()], [truth_row()], **options)
    with pytest.raises(ValueError, match=message):
        MomentMetrics(**options)
