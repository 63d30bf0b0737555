"""Likely mistakes in submissions that can be scored are remarked, and right ones are not."""

import pytest

from scripts.evaluate_moments import main
from tasks.common.files import read_jsonl
from tasks.moment_retrieval.metrics import MomentMetrics, evaluate
from tasks.moment_retrieval.submission import SubmissionError
from tests.parity import QVHIGHLIGHTS, needs_qvhighlights
from tests.scripts.test_evaluate_moments import write

TRUE = [[10, 30], [40, 58], [90, 150], [2, 8], [60, 100]]


def truth():
    return [
        {"qid": qid, "vid": f"v{qid}", "duration": 150, "relevant_windows": [window]} for qid, window in enumerate(TRUE)
    ]


def answers(change=lambda start, end: (start, end)):
    """Nearly right windows in another unit or form, and a second window of a lower score."""
    return [
        {"qid": qid, "pred_relevant_windows": [[*change(start + 1, end), 0.9], [*change(0, 5), 0.1]]}
        for qid, (start, end) in enumerate(TRUE)
    ]


def said(submission, **options):
    lines = []
    evaluate(submission, truth(), remark=lines.append, **options)
    return lines


FORMS = {
    "[start, end] as shares of the video": lambda a, b: (a / 150, b / 150),
    "[start, end] in clips of 2 s": lambda a, b: (a / 2, b / 2),
    "[centre, width] in seconds": lambda a, b: ((a + b) / 2, b - a),
    "[centre, width] as shares of the video": lambda a, b: ((a + b) / 300, (b - a) / 150),
    "[centre, width] in clips of 2 s": lambda a, b: ((a + b) / 4, (b - a) / 2),
}


@pytest.mark.parametrize("form", FORMS)
def test_windows_in_another_unit_or_form_are_recognised_by_the_truth(form):
    (line,) = said(answers(FORMS[form]))
    assert f"the submission's windows look like {form}: read so, the first ones have a mean IoU of 0.9" in line


def test_right_and_merely_bad_windows_get_no_remark():
    assert said(answers()) == []
    assert said(answers(lambda a, b: (150 - b, 150 - a))) == []
    assert said(answers(lambda a, b: (0, 150))) == []
    assert said(answers(lambda a, b: (7, 7.5))) == []
    assert said(answers(lambda a, b: (a, b)), clip_length=1.0) == []


def test_lists_in_rising_order_of_score_are_remarked():
    rising = [row | {"pred_relevant_windows": row["pred_relevant_windows"][::-1]} for row in answers()]
    (line,) = said(rising)
    assert "5 of 5 lists of windows are in rising order of score: R1 reads the window that is listed first" in line
    ties = [row | {"pred_relevant_windows": [[*w[:2], 0.5] for w in row["pred_relevant_windows"]]} for row in answers()]
    assert said(ties) == []
    single = [row | {"pred_relevant_windows": row["pred_relevant_windows"][:1]} for row in answers()]
    assert said(single) == said([row | {"pred_relevant_windows": []} for row in answers()]) == []
    ragged = [rising[0] | {"pred_relevant_windows": [[0, 5, 0.1], [9, 30, 0.2], [11, 30, 0.9]]}, *rising[1:]]
    assert "5 of 5 lists" in said(ragged)[0]


def test_windows_that_no_range_counts_are_remarked_with_their_number():
    (line,) = said(answers(), lengths={"middle": (10, 30), "long": (30, 50)})
    assert line.startswith(
        "2 of 5 true windows, of 2 queries, are in none of the length ranges (middle 10 to 30 s, long"
    )
    assert line.endswith("they last 6 to 60 s")


@needs_qvhighlights
def test_the_benchmarks_own_sample_gets_no_remark():
    files = [read_jsonl(QVHIGHLIGHTS / name) for name in ("sample_val_preds.jsonl", "highlight_val_release.jsonl")]
    lines = []
    evaluate(*files, remark=lines.append)
    assert lines == []


def test_qids_of_another_kind_are_named():
    words = [row | {"qid": str(row["qid"])} for row in answers()]
    with pytest.raises(
        SubmissionError, match=r"The submission's qids are strings, the ground truth's are numbers \('.'"
    ):
        evaluate(words, truth())
    named = [row | {"qid": str(row["qid"])} for row in truth()]
    with pytest.raises(
        SubmissionError, match=r"qids are numbers, the ground truth's are strings .*: write them as str"
    ):
        evaluate(answers(), named)
    with pytest.raises(SubmissionError) as stop:
        evaluate(answers()[:3], truth())
    assert "strings" not in str(stop.value)


def test_the_command_remarks_on_standard_error_and_scores_all_the_same(tmp_path, capsys):
    shares = answers(FORMS["[start, end] as shares of the video"])
    files = [
        "--submission",
        write(tmp_path / "S.jsonl", shares),
        "--ground-truth",
        write(tmp_path / "G.jsonl", truth()),
    ]
    options = ["--thresholds", "0.3", "0.7", "--recall-at", "1", "5", "--miou", "--length", "long", "30", "inf"]
    assert main([*files, *options]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("remark: the submission's windows look like [start, end] as shares")
    header = next(line for line in printed.out.splitlines() if "R1@0.3" in line)
    assert [cell.strip() for cell in header.split("┃")[1:-1]] == [
        "moments", "R1@0.3", "R1@0.7", "R5@0.3", "R5@0.7", "mIoU", "mAP", "mAP@0.5", "mAP@0.75"
    ]  # fmt: skip
    assert main([*files, "--thresholds", "0"]) == 2
    assert "thresholds must be IoU above 0 and at most 1" in capsys.readouterr().err


def test_a_metric_in_training_makes_no_remarks(caplog):
    metric = MomentMetrics()
    shares = answers(FORMS["[start, end] as shares of the video"])
    metric.update([row | prediction for row, prediction in zip(truth(), shares, strict=True)])
    metric.compute()
    assert caplog.text == ""
