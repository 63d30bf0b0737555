"""Whole runs at the smoke scale, through train.py and the metrics' own command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig

from datamodules.errors import DataError
from datamodules.packed import PackedFeatures
from eval import run_words
from tasks.common.errors import CheckpointError
from tests.programs import started
from tests.tiers import slow
from train import train

Compose = Callable[..., DictConfig]


def record_of(cfg: DictConfig) -> dict:
    return json.loads((Path(cfg.paths.run_dir) / "results.json").read_text(encoding="utf-8"))


def test_a_run_stands_beside_its_floors_and_its_predictions_score_the_same_on_the_command_line(
    compose_run: Compose, tmp_path: Path
) -> None:
    own = f"paths.data_dir={tmp_path}/data"
    cfg = compose_run("experiment=qvhighlights_multi_lcaam", "scale=smoke", "logger=csv", "seed=3", own)
    train(cfg)
    record, folder = record_of(cfg), Path(cfg.paths.run_dir)
    assert (record["status"], record["seed"]) == ("completed", 3)
    assert {"mAP", "R1@0.5", "R1@0.7", "HIT@1", "HD mAP", "test_loss", "train_loss"} <= record["metrics"].keys()
    assert record["floors"].keys() == {"constant", "input_blind", "ceiling"}
    assert record["floors"]["ceiling"]["mAP"] > record["floors"]["constant"]["mAP"]
    assert record["parameters"]["masks"] > 0
    assert record["flops"] > 0
    assert "layer 2/context_sensitivity" in record["analysis"]
    assert (folder / "figures" / "mask_layer_1.png").is_file()
    assert {"val/mAP", "val/HIT@1", "val/loss"} <= set((folder / "metrics.csv").read_text().split("\n")[0].split(","))

    (truth,) = (tmp_path / "data").rglob("highlight_test_with_gt.jsonl")
    files = {"submission": folder / "predictions/test.jsonl", "ground-truth": truth, "output": tmp_path / "scores.json"}
    options = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    assert started("-m", "scripts.evaluate_moments", *options).returncode == 0
    brief = json.loads((tmp_path / "scores.json").read_text())["brief"]
    assert brief["MR-full-mAP"] == record["metrics"]["mAP"]
    assert brief["HL-min-VeryGood-Hit1"] == record["metrics"]["HIT@1"]
    eval_refuses_rows_of_another_clip_length(folder, truth.parent, tmp_path / "real")


def eval_refuses_rows_of_another_clip_length(run: Path, data: Path, other: Path) -> None:
    """The run's data with two rows per clip in one stream, of which the first max_clips look right."""
    shutil.copytree(data, other)
    packed = PackedFeatures(data / "slowfast_features.packed.npy")
    for file in other.glob("slowfast_features.packed.*"):
        file.unlink()
    (other / "slowfast_features").mkdir(exist_ok=True)
    for name in packed.ids:
        np.savez(other / "slowfast_features" / f"{name}.npz", features=packed.read(name).repeat(2, 0))
    with pytest.raises(DataError, match=r"slowfast_features does not fit 24 of 24 videos.* 1 s per row would fit"):
        run_words([f"run={run}", f"data.root={other}", "data.mini=null"])


@pytest.mark.slow
def test_the_same_seed_repeats_and_another_differs(compose_run: Compose) -> None:
    losses = []
    for seed in (1, 1, 2):
        options = (f"seed={seed}", "floors.enabled=false", "logger=csv", "callbacks=none")
        cfg = compose_run("experiment=qvhighlights_lcaam", "scale=smoke", *options)
        train(cfg)
        losses.append(record_of(cfg)["metrics"]["test_loss"])
    assert losses[0] == losses[1] != losses[2]


def test_a_killed_run_goes_on_to_the_very_same_numbers(compose_run: Compose) -> None:
    options = ["experiment=qvhighlights_lcaam", "scale=smoke", "floors.enabled=false", "logger=csv"]
    options += ["callbacks.checkpoint.save_top_k=-1", "callbacks.checkpoint.filename='step{step}'"]
    whole = compose_run(*options)
    train(whole)
    halfway = Path(whole.paths.run_dir) / "checkpoints" / "step3.ckpt"
    rest = compose_run(*options, f"resume={halfway}", "callbacks.checkpoint.filename='again{step}'")
    train(rest)
    assert record_of(rest)["metrics"] == record_of(whole)["metrics"]
    assert [path.stem for path in (Path(rest.paths.run_dir) / "checkpoints").glob("again*")] == ["again6"]


def test_resuming_from_what_is_no_checkpoint_says_so(compose_run: Compose, tmp_path: Path) -> None:
    cut = tmp_path / "last.ckpt"
    cut.write_bytes(b"PK\x03\x04")
    for path, words in ((cut, "cut off"), (tmp_path / "none.ckpt", "no such file")):
        with pytest.raises(CheckpointError, match=words):
            train(compose_run("experiment=qvhighlights_lcaam", "scale=smoke", f"resume={path}"))


@pytest.mark.parametrize("mask", [slow("static_swinbert"), slow("static_logsigmoid"), "extra_linear"])
def test_what_masks_are_compared_with_trains(compose_run: Compose, mask: str) -> None:
    options = (f"mask={mask}", "mask.depth=6", "floors.enabled=false", "logger=csv", "callbacks=none")
    cfg = compose_run("experiment=qvhighlights_baseline", "scale=smoke", *options)
    train(cfg)
    assert record_of(cfg)["status"] == "completed"


@pytest.mark.slow
def test_a_sweep_ends_with_its_table(tmp_path: Path) -> None:
    sweep = ["experiment=qvhighlights_lcaam", "mask.fusion=add,mul", "seed=0", "scale=smoke", "logger=csv"]
    places = [f"paths.log_dir={tmp_path}/logs", f"paths.data_dir={tmp_path}/data", "floors.enabled=false"]
    done = started("train.py", "-m", *sweep, *places)
    assert done.returncode == 0, done.stderr
    (table,) = (tmp_path / "logs" / "multirun").rglob("table.md")
    text = table.read_text()
    assert "mask.fusion=add" in text
    assert "mask.fusion=mul" in text
    assert text in done.stdout + done.stderr
