"""Whole runs at the smoke scale, through train.py."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class
from omegaconf import DictConfig

from configs.schema import ConfigError, validate
from tasks.common.build import build_datamodule
from tasks.common.checkpoints import load_module
from tests.tiers import slow
from train import train

Compose = Callable[..., DictConfig]
ROOT = Path(__file__).resolve().parents[3]
RANKS = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29517"]


def results(folder: Path | str) -> dict:
    return json.loads((Path(folder) / "results.json").read_text(encoding="utf-8"))


def run(folder: Path, *arguments: str, command: list[str] | None = None) -> list[dict]:
    """Every record that train.py leaves below `folder`."""
    options = ["scale=smoke", "logger=csv", f"paths.log_dir={folder / 'logs'}", f"paths.data_dir={folder / 'data'}"]
    command = [*(command or [sys.executable]), "train.py", *arguments, *options]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [results(path.parent) for path in (folder / "logs").rglob("results.json")]


def test_a_run_stands_beside_its_floors_and_its_figures(compose_run: Compose) -> None:
    cfg = compose_run("experiment=imagenet1k_multi_lcaam", "scale=smoke", "seed=3", "data.fraction=0.5")
    train(cfg)
    record, folder = results(cfg.paths.run_dir), Path(cfg.paths.run_dir)
    assert (record["status"], record["seed"], record["data"]["fraction"]) == ("completed", 3, 0.5)
    assert record["metrics"].keys() == {"top1", "top5", "test_loss", "train_loss"}
    assert record["floors"].keys() == {"constant", "linear", "input_blind", "ceiling"}
    assert record["floors"]["ceiling"]["top1"] > record["floors"]["constant"]["top1"]
    assert record["parameters"]["masks"] > 0 and record["flops"] > 0
    assert "layer 2/context_sensitivity" in record["analysis"]
    assert (folder / "figures" / "mask_layer_1.png").is_file()
    rows = [json.loads(line) for line in (folder / "predictions" / "test.jsonl").read_text().splitlines()]
    right = sum(row["predicted"] == row["label"] for row in rows) / len(rows)
    assert record["metrics"]["top1"] == pytest.approx(100 * right, abs=1e-4)
    assert {"val/top1", "val/top5", "val/loss"} <= set((folder / "metrics.csv").read_text().split("\n")[0].split(","))


@pytest.mark.slow
def test_the_same_seed_repeats_and_another_differs(compose_run: Compose) -> None:
    losses = []
    for seed in (1, 1, 2):
        cfg = compose_run("experiment=imagenet1k_lcaam", "scale=smoke", f"seed={seed}", "floors.enabled=false")
        train(cfg)
        losses.append(results(cfg.paths.run_dir)["metrics"]["test_loss"])
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("mask", [slow("none"), slow("static_logsigmoid"), slow("extra_linear"), "extra_layers"])
def test_every_rival_runs(compose_run: Compose, mask: str) -> None:
    sizes = ["task.model_options.embed_dim=48", "mask.depth=6", "trainer.max_steps=2", "trainer.val_check_interval=2"]
    cfg = compose_run("experiment=imagenet1k_lcaam", f"mask={mask}", "scale=smoke", "floors.enabled=false", *sizes)
    train(cfg)
    parts = results(cfg.paths.run_dir)["parameters"]
    assert (parts["masks"] > 0) == (mask == "static_logsigmoid")
    assert (parts["controls"] > 0) == mask.startswith("extra")


def test_finetuning_takes_the_recipe_of_its_lab_note_at_the_papers_scale(compose_run: Compose) -> None:
    cfg = compose_run("experiment=imagenet1k_finetune")
    validate(cfg)
    assert (cfg.task.pretrained, cfg.task.layer_decay, cfg.trainer.max_steps) == (True, 0.65, 124100)
    assert compose_run("experiment=imagenet1k_lcaam").trainer.max_steps == 372300
    mini = compose_run("experiment=imagenet1k_finetune", "scale=mini")
    assert (mini.task.pretrained, mini.trainer.max_steps) == (False, 1200)


@pytest.mark.slow
def test_finetuning_starts_from_the_checkpoint_of_another_run(compose_run: Compose) -> None:
    """With a learning rate of next to nothing it ends with the weights that the other run tested."""
    cfg = compose_run("experiment=imagenet1k_baseline", "scale=smoke", "floors.enabled=false")
    train(cfg)
    first, folder = results(cfg.paths.run_dir), Path(cfg.paths.run_dir)
    weights = f"task.weights={folder / first['checkpoints']['last']}"
    cfg = compose_run("experiment=imagenet1k_finetune", "scale=smoke", "floors.enabled=false", weights, "task.lr=1e-12")
    train(cfg)
    again = results(cfg.paths.run_dir)
    assert again["parameters"]["masks"] > 0
    assert again["metrics"]["test_loss"] == pytest.approx(first["metrics"]["test_loss"], abs=1e-5)


def test_a_misspelt_recipe_is_refused_before_anything_is_built(compose_run: Compose) -> None:
    with pytest.raises(ConfigError, match=r"task\.smoothin: unknown key; did you mean 'smoothing'"):
        validate(compose_run("experiment=imagenet1k_lcaam", "++task.smoothin=0.1"))


@pytest.mark.slow
def test_two_ranks_count_every_test_image_once(tmp_path: Path) -> None:
    """An odd number of test images, so that the ranks have unequally many."""
    devices = ["trainer.devices=2", "trainer.strategy=ddp", "data.mini.test_images=37", "floors.enabled=false"]
    run(tmp_path, "experiment=imagenet1k_multi_lcaam", *devices, command=RANKS)
    (path,) = [path for path in (tmp_path / "logs").rglob("predictions/test.jsonl")]
    record = results(path.parents[1])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({row["name"] for row in rows}) == len(rows) == 37

    cfg = DictConfig({"data": {"_target_": "datamodules.image_classification.Images", **record["data"]}})
    datamodule = build_datamodule(cfg)
    datamodule.setup()
    kind = get_class("tasks.image_classification.module.ImageClassification")
    module = load_module(kind, path.parents[1] / record["checkpoints"]["last"]).eval()
    with torch.no_grad():
        found = {
            name: logits
            for batch in datamodule.test_dataloader()
            for name, logits in zip(batch["name"], module(batch["image"]), strict=True)
        }
    assert [found[row["name"]].argmax().item() for row in rows] == [row["predicted"] for row in rows]
    right = sum(found[row["name"]].argmax().item() == row["label"] for row in rows)
    assert record["metrics"]["top1"] == pytest.approx(100 * right / 37, abs=1e-4)
    loss = sum(-found[row["name"]].log_softmax(-1)[row["label"]].item() for row in rows) / 37
    assert record["metrics"]["test_loss"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.slow
def test_table5_runs_from_one_command(tmp_path: Path) -> None:
    records = run(tmp_path, "sweep=table5", "floors.enabled=false", "callbacks=none", "trainer.max_steps=2")
    found = [(r["experiment"], r["mask"]["scope"], r["data"]["fraction"], r["seed"]) for r in records]
    scopes = {"baseline": "none", "lcaam": "shared", "multi_lcaam": "per_layer"}
    rows = [(f"imagenet1k_{name}", scope) for name, scope in scopes.items()]
    wanted = [(*row, fraction, seed) for row in rows for fraction in (0.1, 0.25, 0.5, 1.0) for seed in (0, 1, 2)]
    assert sorted(found) == sorted(wanted)
    assert all(0 <= r["metrics"]["top1"] <= 100 and r["status"] == "completed" for r in records)
