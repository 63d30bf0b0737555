"""The command that scores files: a ground truth as it was published, and one of highlights alone."""

import json

import pytest

from tests.scripts.test_evaluate_moments import brief_of, change, prediction_rows, score, truth_rows


def bad_truths():
    """A window far past the end, one at the end, none, and a right row."""
    windows = [[[4, 5000]], [[30, 31]], [], [[0, 8]]]
    return [row | {"relevant_windows": own} for row, own in zip(truth_rows(4), windows, strict=True)]


def test_every_defect_of_a_ground_truth_is_listed_at_once(tmp_path, capsys):
    assert score(tmp_path, prediction_rows(4), bad_truths()) == 2
    printed = capsys.readouterr().err
    for part in ("line 1 (qid 0, ", "[4.0, 5000.0] lies", "line 2", "[30.0, 31.0] lies", "line 3", "is empty"):
        assert part in printed
    assert "3 defects" in printed and "--defects, --unmatched" in printed and "Traceback" not in printed


def test_1300_bad_rows_are_counted_and_the_first_are_listed(tmp_path, capsys):
    many = [row | {"relevant_windows": [[100, 101]]} for row in truth_rows(1300)]
    assert score(tmp_path, prediction_rows(1300), many) == 2
    printed = capsys.readouterr().err
    assert "1,300 defects, of which 20 are listed" in printed and printed.count("[100.0, 101.0]") == 20


@pytest.mark.parametrize(
    "options, told",
    [
        (["--defects", "clip"], "1 of 4 queries were cut at the ends of their video; 1 of 4 queries have defects and"),
        (["--defects", "drop"], "2 of 4 queries have defects and are left out; 1 of 4 queries match nothing and are"),
        (["--window-slack", "5000"], "1 of 4 queries match nothing and are left out"),
    ],
)
def test_defects_can_be_cut_or_left_out_with_their_number(tmp_path, capsys, options, told):
    output = tmp_path / "metrics.json"
    given = [*options, "--unmatched", "skip", "--output", str(output)]
    assert score(tmp_path, prediction_rows(4), bad_truths(), *given) == 0
    printed = capsys.readouterr().out
    assert told in printed and brief_of(printed)["MR-full-R1@0.5"] > 0
    counts = json.loads(output.read_text())["left_out"]
    assert len(counts) == printed.count("of 4 queries") and all(f"{n} of 4 queries" in printed for n in counts.values())


def test_queries_without_a_prediction_can_be_left_out_with_their_number(tmp_path, capsys):
    assert score(tmp_path, prediction_rows(2), truth_rows(3), "--missing", "skip") == 0
    assert "1 of 3 queries have no prediction and are left out" in capsys.readouterr().out


def test_a_window_slack_takes_the_place_of_the_clip(tmp_path, capsys):
    truths = change(truth_rows(), 0, relevant_windows=[[4, 21.5]])
    assert score(tmp_path, prediction_rows(), truths) == 0
    assert score(tmp_path, prediction_rows(), truths, "--window-slack", "1") == 2
    assert "(0 to 20 s; 1 s beyond are allowed)" in capsys.readouterr().err


def test_a_ground_truth_of_labels_is_scored_by_its_protocol(tmp_path, capsys):
    truths = [{"qid": "a", "vid": "a", "relevant_windows": None, "label": [[1, 5], [5, 5], [3, 1]], "duration": 7}]
    predictions = [{"qid": "a", "pred_saliency_scores": [0.1, 0.9, 0.2]}]
    assert score(tmp_path, predictions, truths, "--top", "1", "--positive", "median") == 0
    assert brief_of(capsys.readouterr().out) == {"HD mAP": 50.0}  # nothing is above the second rater's median
    assert score(tmp_path, predictions, truths, "--lowest", "1") == 0
    assert brief_of(capsys.readouterr().out)["HD mAP"] > 50
    assert score(tmp_path, predictions, truths, "--top", "0") == 2
    assert "--top must be a number from 1, got 0" in capsys.readouterr().err
