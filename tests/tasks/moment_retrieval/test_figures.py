"""R1 at any threshold, R5, mIoU and length ranges: against their definitions, and as settings of a run."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import ConfigError
from configs.schema import validate
from tasks.moment_retrieval.metric_settings import MetricSettings
from tasks.moment_retrieval.metrics import MomentMetrics, evaluate, headline
from tasks.moment_retrieval.scores import HEADLINE
from tests.parity import QVHIGHLIGHTS, needs_qvhighlights
from tests.tasks.moment_retrieval.literal_metrics import first_window_overlap, mean, truth_row
from tests.tasks.moment_retrieval.test_metrics import cases, flat, only_moments, prediction_row
from train import train

WIDE = [round(0.3 + 0.05 * step, 2) for step in range(14)]  # those of CG-DETR's files


def literal_recall(submission, truth, above, up_to, most, threshold=None):
    """The share of queries, in percent, or the mean IoU of the first window without a threshold."""
    listed, found = {row["qid"]: row["pred_relevant_windows"][:most] for row in submission}, []
    for row in truth:
        if windows := [w for w in row["relevant_windows"] if above < w[1] - w[0] <= up_to]:
            best = max((first_window_overlap(window, windows) for window in listed[row["qid"]]), default=0.0)
            found.append(best if threshold is None else best >= threshold)
    return 100 * mean(found)


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from([[0.3, 0.5, 0.7], [0.1], [0.9, 0.62]]), st.sampled_from([[1, 5], [3]]))
def test_recalls_and_miou_are_those_of_their_definitions(case, thresholds, top):
    lengths = {"short": (0, 10), "long": (10, None)}
    found = evaluate(*case, lengths=lengths, thresholds=thresholds, recall_at=top, miou=True, decimals=None)
    for name, (above, up_to) in {"short": (0, 10), "long": (10, 1e9), "full": (-1, 1e9)}.items():
        if name not in found:
            continue
        levels = {*WIDE, *thresholds} if min(thresholds) < 0.5 else {*WIDE[4:], *thresholds}
        assert [float(level) for level in found[name][f"MR-R{top[0]}"]] == sorted(levels)
        for most in top:
            for level, value in found[name][f"MR-R{most}"].items():
                assert value == pytest.approx(literal_recall(*case, above, up_to, most, float(level)), abs=1e-9)
        assert found[name]["MR-mIoU"] == pytest.approx(literal_recall(*case, above, up_to, 1), abs=1e-9)


@needs_qvhighlights
def test_further_figures_leave_the_benchmarks_as_they_are_and_have_the_names_of_cg_detr_s_files():
    from tasks.common.files import read_jsonl

    files = [read_jsonl(QVHIGHLIGHTS / name) for name in ("sample_val_preds.jsonl", "highlight_val_release.jsonl")]
    official = flat(json.loads((QVHIGHLIGHTS / "sample_val_preds_metrics_raw.json").read_text()))
    found = flat(evaluate(*files, thresholds=[0.3, 0.5, 0.7], miou=True))
    assert {name: found[name] for name in official} == official
    assert len(official) == 104 and len(found) == 126
    more = {"/brief/MR-full-R1@0.3", "/brief/MR-full-mIoU"}
    for name in ("full", "short", "middle", "long"):
        more |= {f"/{name}/MR-mIoU", *(f"/{name}/MR-R1/{threshold}" for threshold in (0.3, 0.35, 0.4, 0.45))}
    assert found.keys() - official.keys() == more


def test_r5_asks_the_first_five_listed_windows_and_no_sixth():
    windows = [[40, 50, 0.9 - 0.1 * rank] for rank in range(4)]
    truth = only_moments(truth_row())
    for place, percent in ((4, 100), (5, 0)):
        listed = [*windows, *[[40, 50, 0.1]] * (place - 4), [0, 8, 0.05]]
        row = only_moments(prediction_row(pred_relevant_windows=listed))
        found = evaluate([row], [truth], recall_at=[1, 5])
        assert (found["full"]["MR-R1"]["0.5"], found["full"]["MR-R5"]["0.5"]) == (0, percent)
        assert found["brief"]["MR-full-R5@0.5"] == percent


def test_a_window_longer_than_150_s_is_a_long_one():
    row = only_moments(truth_row(duration=400, relevant_windows=[[0, 200]]))
    found = evaluate([only_moments(prediction_row(pred_relevant_windows=[[0, 200, 1.0]]))], [row])
    assert headline(found)["mAP long"] == 100


def test_the_usual_settings_are_the_benchmarks():
    usual = MetricSettings()
    assert usual.figures() == HEADLINE
    case = [prediction_row()], [truth_row()]
    assert evaluate(*case, **usual.options()) == evaluate(*case)


def test_settings_name_every_figure_that_they_ask_for():
    ranges = {"short": None, "middle": [10, 60], "huge": [60, None]}
    asked = MetricSettings(
        thresholds=[0.3, 0.7], recall_at=[1, 5], miou=True, lengths=ranges, by_length=["mAP", "R", "mIoU"]
    )
    truth = [truth_row(1, relevant_windows=[[0, 20]]), truth_row(2, duration=100, relevant_windows=[[0, 90]])]
    metric = MomentMetrics(**asked.options())
    metric.update([row | prediction_row(row["qid"], pred_saliency_scores=[0.0] * 50) for row in truth])
    found = headline(metric.compute(), asked.figures())
    assert list(found) == list(asked.figures())  # none of them is missing
    assert {"R1@0.3", "R5@0.7", "mIoU", "mAP middle", "R1@0.3 huge", "mIoU huge"} <= found.keys()
    assert not [name for name in found if "short" in name or ("0.5" in name and "mAP" not in name)]
    assert found["mIoU"] == pytest.approx(100 * (8 / 20 + 8 / 90) / 2, abs=0.01)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("task.metrics.thresholds=[0.3,1.5]", "task.metrics.thresholds: [0.3, 1.5] is out of range"),
        ("task.metrics.thresholds=[]", "task.metrics.thresholds: [] is out of range; allowed: numbers above 0"),
        ("task.metrics.recall_at=[0]", "task.metrics.recall_at: [0] is out of range"),
        ("task.metrics.lengths.long=[30,10]", "lengths['long'] must be (above, up to) with above < up to"),
        ("task.metrics.lengths.long=[30]", "task.metrics: lengths.long: [30] is not [above, up to]"),
        ("+task.metrics.lengths.full=[30,40]", "lengths cannot have 'full'"),
        ("task.metrics.by_length=[map]", "task.metrics.by_length: ['map'] is not a list, each one of mAP, R, mIoU"),
        ("+task.metrics.threshold=0.5", "task.metrics.threshold: unknown key, did you mean 'thresholds'"),
        ("callbacks.checkpoint.monitor=val/R1@0.3", "the task never logs 'val/R1@0.3'"),
    ],
)
def test_settings_out_of_range_stop_before_anything_is_built(compose_run, override, message):
    with pytest.raises(ConfigError) as stop:
        validate(compose_run("experiment=qvhighlights_baseline", override))
    assert message in str(stop.value).replace("; did you", ", did you")


def test_what_the_settings_add_can_be_watched(compose_run):
    asked = ["task.metrics.thresholds=[0.3]", "optimized_metric=val/R1@0.3", "callbacks.checkpoint.monitor=val/R1@0.3"]
    validate(compose_run("experiment=qvhighlights_baseline", *asked))


def test_charades_sta_has_the_figures_of_its_literature_and_exact_windows(compose_run):
    for experiment in ("experiment=qvhighlights_baseline", "task=moment_retrieval"):
        task = compose_run(experiment, "data=charades_sta").task
        assert (task.round_windows, task.metrics.thresholds, task.metrics.miou) == (False, [0.3, 0.5, 0.7], True)
    assert compose_run("experiment=qvhighlights_baseline").task.round_windows


def test_a_run_trains_validates_and_reports_with_settings_of_its_own(compose_run, capsys):
    asked = ["task.metrics.thresholds=[0.3,0.5]", "task.metrics.recall_at=[1,5]", "task.metrics.miou=true"]
    asked += ["task.metrics.lengths={short:null,middle:[3,6],long:null}", "task.round_windows=false"]
    cfg = compose_run("experiment=qvhighlights_baseline", "scale=smoke", "logger=csv", "floors.enabled=false", *asked)
    train(cfg)
    folder = Path(cfg.paths.run_dir)
    metrics = json.loads((folder / "results.json").read_text())["metrics"]
    assert {"R1@0.3", "R1@0.5", "R5@0.3", "mIoU", "mAP middle"} <= metrics.keys()
    assert not {"R1@0.7", "mAP short", "mAP long"} & metrics.keys()
    assert {"val/R1@0.3", "val/mIoU", "val/R5@0.5"} <= set(
        (folder / "metrics.csv").read_text().split("\n")[0].split(",")
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "windows are as predicted (task.round_windows=false)" in said
    assert "are in none of the length ranges (middle 3 to 6 s); they last" in said
