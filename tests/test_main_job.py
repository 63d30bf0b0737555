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
def four_jobs(tmp_path_factory) -> Path:
    """Two experiments x two seeds, two jobs at a time; the sweep ends with its table."""
    folder = tmp_path_factory.mktemp("sweep")
    sweep = ["experiment=madv2_baseline,madv2_multi_lcaam", "seed=0,1", "hydra/launcher=joblib"]
    done = trained(folder, "-m", *sweep, "scale=smoke", "logger=many", WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr[-3000:]
    (table,) = (folder / "logs" / "multirun").rglob("table.md")
    text = table.read_text(encoding="utf-8")
    assert "| madv2_multi_lcaam | 2 |" in text
    assert text in done.stdout + done.stderr
    return folder


def test_a_parallel_sweep_leaves_four_folders_with_four_right_records(four_jobs):
    found = records(four_jobs)
    assert {(r["experiment"], r["seed"], r["mask"]["scope"]) for r in found} == {
        ("madv2_baseline", 0, "none"),
        ("madv2_baseline", 1, "none"),
        ("madv2_multi_lcaam", 0, "per_layer"),
        ("madv2_multi_lcaam", 1, "per_layer"),
    }
    assert len(found) == 4
    for record in found:
        assert record["status"] == "completed"
        assert CAPTION_METRICS | {"R@5/16[rougeL]", "exact", "test_loss", "train_loss"} <= record["metrics"].keys()
        assert record["floors"].keys() == {"constant", "input_blind", "ceiling"}
        assert (record["parameters"]["masks"] > 0) == (record["experiment"] == "madv2_multi_lcaam")
        assert record["flops"] > 0
    assert len({json.dumps(r["metrics"]) for r in found}) == 4
    assert len({json.dumps(r["floors"], sort_keys=True) for r in found}) == 1, "floors belong to the data"


def test_every_test_prediction_stands_beside_its_reference(four_jobs):
    for path in four_jobs.rglob("predictions/test.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(rows) == 16
        assert all(row["reference"] and "generated" in row for row in rows)
        assert [row["start"] for row in rows] == sorted(row["start"] for row in rows)


def test_the_same_seed_again_gives_the_same_numbers_even_alone(four_jobs, tmp_path):
    """Another process, one job instead of two, the data set generated again."""
    done = trained(tmp_path, "experiment=madv2_multi_lcaam", "scale=smoke", "seed=1")
    assert done.returncode == 0, done.stderr[-3000:]
    (again,) = records(tmp_path)
    (before,) = [r for r in records(four_jobs) if (r["experiment"], r["seed"]) == ("madv2_multi_lcaam", 1)]
    for part in ("metrics", "floors", "analysis", "flops"):
        assert again[part] == before[part], part
    assert "this run" in done.stdout
    assert "paper" not in done.stdout, "its figures belong to other data"


def test_its_wandb_run_holds_metrics_settings_and_heat_maps(four_jobs):
    run = next(path for path in four_jobs.rglob("offline-run-*") if "multi" in str(path))
    text = json.dumps(records_of(run))
    caption = sorted(CAPTION_METRICS)[0]
    for expected in (f"test/{caption}", "train/loss", "figures/mask_layer 1", "mask.depth", "git.commit", "per_layer"):
        assert expected in text, expected
    assert list(run.rglob("*.png")), "the pictures are in the run's files"


def test_without_java_it_ends_and_says_what_its_scores_are(tmp_path):
    done = trained(tmp_path, "experiment=madv2_baseline", "scale=smoke", "logger=csv", PATH="")
    assert done.returncode == 0, done.stderr[-3000:]
    (record,) = records(tmp_path)
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


def test_a_finished_run_is_evaluated_again_with_the_same_numbers(four_jobs):
    run = next(path.parent for path in four_jobs.rglob("results.json") if "multi" in str(path))
    done = started("eval.py", f"run={run}")
    assert done.returncode == 0, done.stderr[-3000:]
    before = json.loads((run / "results.json").read_text())["metrics"]
    assert f"{before['test_loss']:.2f}" in done.stdout
