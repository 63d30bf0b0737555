"""The main job, audio description, from the command line to the record, at the smallest scale."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.offline import records_of
from tests.programs import started

CAPTION_METRICS = {"rouge_l", "cider"} if shutil.which("java") else {"rouge_l_plain", "cider_plain"}


def trained(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    places = [f"paths.log_dir={folder}/logs", f"paths.data_dir={folder}/data"]
    return started("train.py", *arguments, *places, **environment)


def records(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("results.json"))]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """Two seeds at a time; the sweep ends with its table."""
    folder = tmp_path_factory.mktemp("sweep")
    seeds = ["experiment=madv2_multi_lcaam", "seed=0,1", "hydra/launcher=local"]
    done = trained(folder, "-m", *seeds, "scale=smoke", "logger=many", WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr[-3000:]
    (table,) = (folder / "logs" / "multirun").rglob("table.md")
    text = table.read_text(encoding="utf-8")
    assert "| madv2_multi_lcaam | 2 |" in text
    assert text in done.stdout + done.stderr
    return folder


def test_a_parallel_sweep_leaves_two_folders_with_two_right_records(sweep):
    found = records(sweep)
    assert sorted((r["experiment"], r["seed"], r["mask"]["scope"]) for r in found) == [
        ("madv2_multi_lcaam", 0, "per_layer"),
        ("madv2_multi_lcaam", 1, "per_layer"),
    ]
    for record in found:
        assert record["status"] == "completed"
        assert CAPTION_METRICS | {"R@5/16[rougeL]", "exact", "test_loss", "train_loss"} <= record["metrics"].keys()
        assert record["floors"].keys() == {"constant", "input_blind", "ceiling"}
        assert record["parameters"]["masks"] > 0
        assert record["flops"] > 0
    assert len({json.dumps(r["metrics"]) for r in found}) == 2
    assert len({json.dumps(r["floors"], sort_keys=True) for r in found}) == 1, "floors belong to the data"


def test_a_single_run_that_is_there_is_not_made_again_if_that_is_asked_for(sweep):
    before = records(sweep)
    again = ["experiment=madv2_multi_lcaam", "seed=1", "scale=smoke", "sweep.skip_completed=true"]
    done = trained(sweep, *again)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "is completed: not run again" in done.stdout and "seed1" in done.stdout
    assert records(sweep) == before


def test_every_test_prediction_stands_beside_its_reference(sweep):
    for path in sweep.rglob("predictions/test.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(rows) == 16
        assert all(row["reference"] and "generated" in row for row in rows)
        assert [row["start"] for row in rows] == sorted(row["start"] for row in rows)


@pytest.mark.slow  # tests/tasks/common/test_run.py has it for a small task
def test_the_same_seed_again_gives_the_same_numbers_even_alone(sweep, tmp_path):
    """Another process, one job instead of two, the data set generated again."""
    done = trained(tmp_path, "experiment=madv2_multi_lcaam", "scale=smoke", "seed=1")
    assert done.returncode == 0, done.stderr[-3000:]
    (again,) = records(tmp_path)
    (before,) = [r for r in records(sweep) if r["seed"] == 1]
    for part in ("metrics", "floors", "analysis", "flops"):
        assert again[part] == before[part], part
    assert "this run" in done.stdout
    assert "paper" not in done.stdout, "its figures belong to other data"


def test_its_wandb_run_holds_metrics_settings_and_heat_maps(sweep):
    run = next(path for path in sweep.rglob("offline-run-*"))
    text = json.dumps(records_of(run))
    caption = sorted(CAPTION_METRICS)[0]
    for expected in (f"test/{caption}", "train/loss", "figures/mask_layer_1", '"depth"', '"commit"', "per_layer"):
        assert expected in text, expected
    assert list(run.rglob("*.png")), "the pictures are in the run's files"


def test_without_java_it_ends_and_says_what_its_scores_are(tmp_path):
    done = trained(tmp_path, "experiment=madv2_baseline", "scale=smoke", "logger=csv", PATH="")
    assert done.returncode == 0, done.stderr[-3000:]
    (record,) = records(tmp_path)
    assert (record["mask"]["scope"], record["parameters"]["masks"]) == ("none", 0)
    assert {"cider_plain", "rouge_l_plain"} <= record["metrics"].keys()
    assert "cider" not in record["metrics"]
    assert "PTB tokenizer" in done.stdout + done.stderr


def test_missing_data_at_the_papers_scale_stops_before_anything_is_built(tmp_path):
    done = trained(tmp_path, "experiment=madv2_multi_lcaam")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for part in ("CLIP_L14_frames_features_5fps.h5", f"{tmp_path}/data/madv2", "docs/datasets.md#mad-v2", "scale=mini"):
        assert part in done.stderr, part
    (record,) = records(tmp_path)
    assert record["status"] == "failed"
    assert record["error"]["type"] == "DataError"


def test_a_mask_narrower_than_the_data_stops_before_anything_is_built(tmp_path):
    done = trained(tmp_path, "experiment=madv2_multi_lcaam", "scale=smoke", "mask.num_keys=40")
    assert done.returncode == 1
    assert "mask.num_keys" in done.stderr
    assert "50" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_finished_run_is_evaluated_again_with_the_same_numbers(sweep):
    run = next(path.parent for path in sweep.rglob("results.json"))
    done = started("eval.py", f"run={run}")
    assert done.returncode == 0, done.stderr[-3000:]
    before = json.loads((run / "results.json").read_text())["metrics"]
    assert f"{before['test_loss']:.2f}" in done.stdout
