"""The command that scores files: what it prints and writes, and how it names what it cannot score."""

import json
import math
from pathlib import Path

import pytest

from scripts.evaluate_moments import main
from tasks.moment_retrieval.scores import evaluate
from tasks.moment_retrieval.submission import SubmissionError
from tests.parity import QVHIGHLIGHTS, needs_qvhighlights
from tests.programs import started

ROOT = Path(__file__).resolve().parents[2]


def truth_rows(count=3):
    row = {
        "duration": 20,
        "relevant_windows": [[0, 8]],
        "relevant_clip_ids": [0, 3],
        "saliency_scores": [[4, 3, 2]] * 2,
    }
    return [{"qid": qid, "vid": f"video{qid}", **row} for qid in range(count)]


def prediction_rows(count=3):
    row = {"pred_relevant_windows": [[0, 8, 0.9], [2, 20, 0.5]], "pred_saliency_scores": [0.5] * 10}
    return [{"qid": qid, "vid": f"video{qid}", **row} for qid in range(count)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def score(folder, predictions, truths, *options):
    files = [write(folder / "S.jsonl", predictions), "--ground-truth", write(folder / "G.jsonl", truths)]
    return main(["--submission", *files, *options])


def brief_of(text):
    return json.loads(text[text.index("{") :])["brief"]


@needs_qvhighlights
def test_the_module_scores_the_sample_as_the_benchmark_did(tmp_path):
    output = tmp_path / "new" / "metrics.json"
    files = ("--submission", "sample_val_preds.jsonl"), ("--ground-truth", "highlight_val_release.jsonl")
    arguments = [part for option, name in files for part in (option, str(QVHIGHLIGHTS / name))]
    run = started("-m", "scripts.evaluate_moments", *arguments, "--output", str(output))
    assert run.returncode == 0, run.stderr
    official = json.loads((QVHIGHLIGHTS / "sample_val_preds_metrics_raw.json").read_text())
    assert json.dumps(json.loads(output.read_text())) == json.dumps(official)
    assert brief_of(run.stdout) == official["brief"]
    row = next(line for line in run.stdout.splitlines() if "middle" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["middle", "50.26", "31.24", "32.30", "58.81", "30.51"]
    row = next(line for line in run.stdout.splitlines() if "VeryGood" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["VeryGood", "55.55", "35.65"]


def test_options_reach_the_metrics(tmp_path, capsys):
    truths = [row | {"duration": 400, "relevant_windows": [[0, 200]]} for row in truth_rows()]
    predictions = [row | {"pred_relevant_windows": [[0, 9, 1], [0, 200, 0.5]]} for row in prediction_rows()]
    options = ("--length", "long", "30", "2000", "--length", "huge", "100", "300", "--clip-length", "40")
    assert score(tmp_path, predictions, truths, *options, "--max-windows", "1") == 0
    one = brief_of(capsys.readouterr().out)
    assert score(tmp_path, predictions, truths, *options) == 0
    ten = brief_of(capsys.readouterr().out)
    assert one["MR-long-mAP"] == one["MR-huge-mAP"] == 0
    assert ten["MR-long-mAP"] == ten["MR-huge-mAP"] == 50
    assert ten["HL-min-Fair-Hit1"] == 100


def test_ground_truth_without_saliency_prints_moments_only(tmp_path, capsys):
    truths = [{name: row[name] for name in ("qid", "vid", "duration", "relevant_windows")} for row in truth_rows()]
    assert score(tmp_path, prediction_rows(), truths) == 0
    printed = capsys.readouterr().out
    assert "HL" not in printed and "Highlight" not in printed
    assert brief_of(printed)["MR-short-mAP"] == 100


def test_empty_lines_are_skipped_and_counted(tmp_path, capsys):
    write(tmp_path / "G.jsonl", truth_rows())
    lines = [json.dumps(row) for row in prediction_rows()]
    (tmp_path / "S.jsonl").write_text("\n\n".join(lines) + "\n\n{]\n")
    arguments = ["--submission", str(tmp_path / "S.jsonl"), "--ground-truth", str(tmp_path / "G.jsonl")]
    assert main(arguments) == 2
    assert "S.jsonl, line 7: not JSON" in capsys.readouterr().err


def change(rows, at, **changes):
    return [row | changes if i == at else row for i, row in enumerate(rows)]


def drop(rows, at, key):
    return [{name: row[name] for name in row if i != at or name != key} for i, row in enumerate(rows)]


WRONG_SUBMISSIONS = {
    "no windows": (
        lambda p: drop(p, 1, "pred_relevant_windows"),
        "line 2",
        "qid 1, vid 'video1'",
        "has no key 'pred_rel",
    ),
    "misspelt": (
        lambda p: [
            {("pred_relevant_window" if k == "pred_relevant_windows" else k): v for k, v in r.items()} for r in p
        ],
        "line 1",
        "did you mean its 'pred_relevant_window'?",
    ),
    "no qid": (lambda p: drop(p, 2, "qid"), "line 3", "has no key 'qid'"),
    "list as qid": (lambda p: change(p, 0, qid=[1]), "line 1", "qid must be a number or a name, got [1]"),
    "qid twice": (lambda p: [*p, p[1]], "line 4", "qid 1, vid 'video1'", "the qid is already that of line 2"),
    "other video": (
        lambda p: change(p, 2, vid="x"),
        "line 3",
        "predicts video 'x', but the ground truth's is 'video2'",
    ),
    "saliency in some": (lambda p: drop(p, 1, "pred_saliency_scores"), "line 2", "which 2 other rows have"),
    "NaN score": (
        lambda p: change(p, 1, pred_relevant_windows=[[0, 2, 0.1], [0, 1, math.nan]]),
        "line 2 (qid 1, vid 'video1'): pred_relevant_windows has nan (entry 1)",
    ),
    "infinite window": (
        lambda p: change(p, 0, pred_relevant_windows=[[0, math.inf, 0.1]]),
        "line 1",
        "pred_relevant_windows has inf (entry 0)",
    ),
    "NaN saliency": (
        lambda p: change(p, 2, pred_saliency_scores=[0.0] * 7 + [math.nan] * 3),
        "line 3",
        "pred_saliency_scores has nan (entry 7)",
    ),
    "null saliency": (lambda p: change(p, 2, pred_saliency_scores=[None] * 10), "pred_saliency_scores has nan"),
    "no score": (lambda p: change(p, 1, pred_relevant_windows=[[0, 2]]), "line 2", "each entry [start, end, score]"),
    "ragged": (lambda p: change(p, 1, pred_relevant_windows=[[0, 2, 1], [1]]), "line 2", "got [[0, 2, 1], [1]]"),
    "words": (lambda p: change(p, 1, pred_saliency_scores="high"), "line 2", "a number per clip, got 'high'"),
    "short saliency": (
        lambda p: change(p, 1, pred_saliency_scores=[0.0] * 8),
        "line 2 (qid 1, vid 'video1'): 8 pred_saliency_scores for a video of 10 clips (20 s)",
    ),
    "no saliency": (lambda p: change(p, 1, pred_saliency_scores=[]), "0 pred_saliency_scores for a video of 10 clips"),
}
WRONG_TRUTHS = {
    "qid twice": (lambda t: [*t, t[2]], "line 4", "qid 2", "already that of line 3"),
    "no duration": (lambda t: drop(t, 1, "duration"), "line 2", "vid 'video1'", "has no key 'duration'"),
    "no windows": (lambda t: drop(t, 1, "relevant_windows"), "line 2", "has no key 'relevant_windows'"),
    "empty windows": (lambda t: change(t, 1, relevant_windows=[]), "line 2", "relevant_windows is empty"),
    "reversed": (
        lambda t: change(t, 1, relevant_windows=[[0, 2], [8, 4]]),
        "line 2",
        "true window [8.0, 4.0] is reversed",
    ),
    "too late": (
        lambda t: change(t, 2, relevant_windows=[[4, 22.5]]),
        "line 3 (qid 2, vid 'video2'): true window [4.0, 22.5] lies outside the video (0 to 20 s; 2 s, one clip",
    ),
    "too early": (lambda t: change(t, 2, relevant_windows=[[-3, 5]]), "line 3", "[-3.0, 5.0] lies outside"),
    "NaN window": (lambda t: change(t, 2, relevant_windows=[[math.nan, 5]]), "line 3", "relevant_windows has nan"),
    "duration": (lambda t: change(t, 0, duration=-1), "line 1", "duration must be above 0, got -1"),
    "text duration": (lambda t: change(t, 0, duration="long"), "line 1", "duration must be seconds, got 'long'"),
    "huge duration": (lambda t: change(t, 0, duration=10**400), "line 1", "duration must be seconds, got 1000000"),
    "clip outside": (
        lambda t: change(t, 1, relevant_clip_ids=[0, 10]),
        "line 2",
        "relevant clip 10 is none of the video's 10",
    ),
    "half a clip": (lambda t: change(t, 1, relevant_clip_ids=[0, 1.5]), "line 2", "relevant clip 1.5 is none"),
    "clip twice": (lambda t: change(t, 1, relevant_clip_ids=[3, 3]), "line 2", "relevant clip 3 is listed 2 times"),
    "fewer ratings": (
        lambda t: change(t, 1, saliency_scores=[[1, 2, 3]]),
        "line 2",
        "1 saliency_scores for 2 relevant_clip_ids",
    ),
    "annotators": (lambda t: change(t, 1, saliency_scores=[[1, 2]] * 2), "line 2", "2 numbers per entry, but 3"),
    "no clip": (
        lambda t: change(t, 1, duration=1.5, relevant_windows=[[0, 1]]),
        "line 2",
        "relevant clip 3 is none of the video's 1 clips",
    ),
    "some saliency": (lambda t: drop(t, 0, "saliency_scores"), "line 1", "which 2 other rows have"),
    "half the saliency": (
        lambda t: [{name: row[name] for name in row if name != "saliency_scores"} for row in t],
        "has relevant_clip_ids but no saliency_scores",
    ),
    "nothing": (lambda t: [], "G.jsonl has no queries"),
}


def refused(folder, capsys, predictions, truths):
    """What the command says, in one paragraph; the function says the same with rows in the place of lines."""
    assert score(folder, predictions, truths) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and "Traceback" not in printed.err
    with pytest.raises(SubmissionError):
        evaluate(predictions, truths)
    return printed.err


@pytest.mark.parametrize("name", WRONG_SUBMISSIONS)
def test_wrong_submissions_are_named_with_file_line_and_query(name, tmp_path, capsys):
    spoil, *parts = WRONG_SUBMISSIONS[name]
    message = refused(tmp_path, capsys, spoil(prediction_rows()), truth_rows())
    assert all(part in message for part in ("S.jsonl, line", *parts)), message


@pytest.mark.parametrize("name", WRONG_TRUTHS)
def test_wrong_ground_truth_is_named_with_file_line_and_query(name, tmp_path, capsys):
    spoil, *parts = WRONG_TRUTHS[name]
    message = refused(tmp_path, capsys, prediction_rows(), spoil(truth_rows()))
    assert all(part in message for part in ("G.jsonl", *parts)), message


def test_queries_in_only_one_file_are_listed_up_to_eight(tmp_path, capsys):
    message = refused(tmp_path, capsys, prediction_rows(1), truth_rows(10))
    assert "9 queries of" in message and "have no prediction in" in message
    assert "qid 1, vid 'video1' (line 2)" in message and "qid 8, vid 'video8' (line 9) and 1 more" in message
    message = refused(tmp_path, capsys, prediction_rows(9), truth_rows(1))
    assert "8 predictions in" in message and "are for no query of" in message
    assert "qid 8, vid 'video8' (line 9)" in message and "more" not in message
    message = refused(tmp_path, capsys, [row | {"qid": str(row["qid"])} for row in prediction_rows()], truth_rows())
    assert "qid 0, vid 'video0'" in message


def test_rows_of_lists_are_named_by_their_place():
    with pytest.raises(SubmissionError, match=r"the submission, row 1 \(qid 1, vid 'video1'\): has no key"):
        evaluate(drop(prediction_rows(), 1, "pred_relevant_windows"), truth_rows())


def test_predicted_windows_outside_or_reversed_are_legal_and_a_clip_beyond_for_true_ones():
    predictions = change(prediction_rows(), 0, pred_relevant_windows=[[-50, 900, 1.0], [8, 0, 1.0]])
    truths = change(truth_rows(), 1, relevant_windows=[[-2, 22]])
    full = evaluate(predictions, truths)["full"]
    assert full["MR-R1"]["0.5"] == pytest.approx(100 / 3, abs=0.005)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"{]\n", "line 1: not JSON"),
        (b"[1, 2]\n", "line 1: needs a JSON object, got '[1, 2]'"),
        (b"\xff\xfe\n", "not a readable text file"),
        (b"\n\n", "has no queries"),
        (None, "not a readable text file"),
    ],
)
def test_files_that_are_none_are_named(content, message, tmp_path, capsys):
    if content is not None:
        (tmp_path / "S.jsonl").write_bytes(content)
    truth = write(tmp_path / "G.jsonl", truth_rows())
    assert main(["--submission", str(tmp_path / "S.jsonl"), "--ground-truth", truth]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "S.jsonl") in error and message in error and "Traceback" not in error


@pytest.mark.parametrize(
    "options, message",
    [
        (("--length", "long", "30", "far"), "--length long needs two numbers of seconds, got 30 far"),
        (("--length", "long", "30", "3"), "above < up to, got (30.0, 3.0)"),
        (("--max-windows", "0"), "max_windows must be an integer from 1, got 0"),
        (("--output", "."), "--output must be a file, . is a folder"),
    ],
)
def test_wrong_options_end_with_status_2(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert score(tmp_path, prediction_rows(), truth_rows(), *options) == 2
    assert message in capsys.readouterr().err
