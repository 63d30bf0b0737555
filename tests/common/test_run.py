"""A whole run of the tiny task through train.py: what it leaves behind, whatever way it ends."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from datamodules.errors import DataError
from tasks.common.errors import NonFiniteLossError
from train import train

TinyRun = Callable[..., DictConfig]


def results(cfg: DictConfig) -> dict:
    return json.loads((Path(cfg.paths.run_dir) / "results.json").read_text(encoding="utf-8"))


def test_a_run_leaves_everything_behind(tiny_run: TinyRun) -> None:
    cfg = tiny_run("seed=7")
    returned = train(cfg)
    folder, record = Path(cfg.paths.run_dir), results(cfg)

    assert (record["status"], record["error"]) == ("completed", None)
    assert (record["experiment"], record["scale"], record["seed"]) == ("madv2_lcaam", "smoke", 7)
    assert record["mask"]["scope"] == "shared"
    assert record["floors"].keys() == {"constant", "ceiling", "input_blind"}
    assert record["parameters"] == {"layer": 3}
    assert record["flops"] == 4
    assert record["analysis"] == {"layer 1/sign_flips": 0.25}
    assert record["seconds"].keys() == {"fit", "test", "floors", "total"}
    assert record["peak_memory"]["process"] > 1e8
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    assert {"lcaam", "python", "hydra-core", "pytorch-lightning"} <= record["versions"].keys()

    for file in [*record["checkpoints"].values(), "figures/mask_layer_1.png", "figures/attention_histogram.png"]:
        assert (folder / file).stat().st_size > 500
    rows = [json.loads(line) for line in (folder / "predictions" / "test.jsonl").read_text().splitlines()]
    assert len(rows) == 32
    mean = sum(abs(row["given"] - row["predicted"]) for row in rows) / len(rows)
    assert record["metrics"]["error"] == pytest.approx(mean)
    saved = OmegaConf.load(folder / "config.yaml")
    assert saved == OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))

    logged = list(csv.DictReader((folder / "metrics.csv").open()))
    assert {"train/loss", "val/loss", "test/loss"} <= logged[0].keys()
    assert returned == float([row["val/loss"] for row in logged if row["val/loss"]][-1])
    assert not [path for path in folder.rglob(".*") if path.is_file()]  # no half-written drafts


def test_the_same_seed_twice_is_identical_and_another_differs(tiny_run: TinyRun) -> None:
    """Seed 0 included: `if seed:` would leave it to chance."""
    metrics = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(metrics) + 1000)  # what came before must not matter
        cfg = tiny_run(f"seed={seed}", "floors.enabled=false")
        train(cfg)
        metrics.append((results(cfg)["metrics"], (Path(cfg.paths.run_dir) / "metrics.csv").read_text()))
    assert metrics[0] == metrics[1]
    assert metrics[0] != metrics[2]


@pytest.mark.parametrize(
    ("fail", "raised", "kind"),
    [
        ("error", RuntimeError, "RuntimeError"),
        ("interrupt", SystemExit, "KeyboardInterrupt"),
        ("terminate", SystemExit, "Terminated"),
    ],
)
def test_a_run_that_breaks_is_recorded_as_failed(tiny_run: TinyRun, fail: str, raised: type, kind: str) -> None:
    cfg = tiny_run(task={"fail": fail})
    with pytest.raises(raised):
        train(cfg)
    record = results(cfg)
    assert (record["status"], record["error"]["type"]) == ("failed", kind)
    assert record["seconds"].keys() == {"fit", "total"}
    assert record["metrics"] == {}


@pytest.mark.parametrize(("fail", "word"), [("nan", "nan"), ("infinite", "inf")])
def test_a_non_finite_loss_stops_with_task_and_step(tiny_run: TinyRun, fail: str, word: str) -> None:
    cfg = tiny_run(task={"fail": fail})
    message = rf"TinyTask: the training loss is {word} at global step 3 \(epoch 0\)"
    with pytest.raises(NonFiniteLossError, match=message):
        train(cfg)
    assert results(cfg)["error"]["type"] == "NonFiniteLossError"


def test_missing_data_stops_before_anything_is_built(tiny_run: TinyRun) -> None:
    cfg = tiny_run(data={"missing": True}, task={"fail": "error"})
    with pytest.raises(DataError, match="points.h5 is missing"):
        train(cfg)
    assert results(cfg)["status"] == "failed"
    assert not (Path(cfg.paths.run_dir) / "checkpoints").exists()
    assert not (Path(cfg.paths.run_dir) / "metrics.csv").exists()


def test_the_best_checkpoint_is_tested_where_the_run_says_so(tiny_run: TinyRun) -> None:
    """With a rate that diverges, the best weights are early ones: the two rules must then disagree."""
    errors = {}
    for rule in ("last", "best"):
        cfg = tiny_run(f"test_checkpoint={rule}", "floors.enabled=false", task={"lr": 1.5}, max_steps=12)
        train(cfg)
        record = results(cfg)
        errors[rule] = record["metrics"]["error"]
        assert record["tested"] == rule
        assert record["checkpoints"].keys() == {"last", "best"}
    assert errors["best"] < errors["last"]


@pytest.mark.parametrize("choice", ["debug=default", "debug=overfit", "debug=profiler", "callbacks=none"])
def test_the_debug_settings_run(tiny_run: TinyRun, choice: str) -> None:
    cfg = tiny_run(choice, "floors.enabled=false")
    train(cfg)
    assert results(cfg)["status"] == "completed"


def test_figures_do_not_change_a_training(tiny_run: TinyRun) -> None:
    logged = []
    for every in ("null", "1"):
        cfg = tiny_run(f"callbacks.figures.every_n_epochs={every}", "floors.enabled=false")
        train(cfg)
        logged.append((Path(cfg.paths.run_dir) / "metrics.csv").read_text())
    assert logged[0] == logged[1]
    assert (Path(cfg.paths.run_dir) / "figures" / "mask_layer_1_epoch001.png").is_file()
