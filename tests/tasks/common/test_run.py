"""A whole run of the tiny task through train.py: what it leaves behind, whatever way it ends."""

import csv
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from datamodules.errors import DataError
from tasks.common.build import build, build_module
from tasks.common.checkpoints import checkpoint_to_test
from tasks.common.errors import CheckpointError, NonFiniteLossError
from tests.tasks.common.tiny import TinyData
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
    assert record["parameters"] == {"layer": 3, "masks": 0, "controls": 0}
    assert record["flops"] == 4
    assert record["analysis"] == {"layer 1/sign_flips": 0.25}
    told = record["evaluation"]
    assert (told["unit"], told["tested"], told["sizes"]["test"], told["left_out"]) == ("samples", 32, 32, {})
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
    assert {"train/loss_step", "val/loss", "test/loss"} <= logged[0].keys()
    assert returned == float([row["val/loss"] for row in logged if row["val/loss"]][-1])
    assert not [path for path in folder.rglob(".*") if path.is_file()]  # no half-written drafts


@pytest.mark.slow
def test_the_same_seed_twice_is_identical_and_another_differs(tiny_run: TinyRun) -> None:
    """Seed 0 included: `if seed:` would not set it."""
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


@pytest.mark.parametrize("validation", ["++trainer.val_check_interval=3", "++trainer.limit_val_batches=0"])
def test_the_last_checkpoint_holds_the_weights_that_were_tested(tiny_run: TinyRun, validation: str) -> None:
    """8 steps, of which no validation sees the last."""
    cfg = tiny_run(validation, "floors.enabled=false")
    train(cfg)
    saved = torch.load(Path(cfg.paths.run_dir) / results(cfg)["checkpoints"]["last"], weights_only=True)
    assert saved["global_step"] == 8


def test_a_best_checkpoint_that_was_never_saved_is_not_replaced_by_the_last(tiny_run: TinyRun) -> None:
    cfg = tiny_run("test_checkpoint=best", "floors.enabled=false", "++trainer.limit_val_batches=0")
    with pytest.raises(CheckpointError, match=r"test_checkpoint=best: no best checkpoint was saved in 8 steps.*=last"):
        train(cfg)
    assert results(cfg)["error"]["type"] == "CheckpointError"
    assert results(cfg)["metrics"] == {}


def test_a_best_checkpoint_that_is_gone_is_named(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, monitor="val/loss")
    saver.best_model_path = str(tmp_path / "best.ckpt")
    trainer = SimpleNamespace(fast_dev_run=False, is_global_zero=True, global_step=3, checkpoint_callbacks=[saver])
    with pytest.raises(CheckpointError, match=r"in 3 steps \(.*best.ckpt is gone\)"):
        checkpoint_to_test(trainer, "best")
    (tmp_path / "best.ckpt").touch()
    assert checkpoint_to_test(trainer, "best") == str(tmp_path / "best.ckpt")
    assert checkpoint_to_test(trainer, "last") is None
    trainer.checkpoint_callbacks = []
    with pytest.raises(CheckpointError, match="no best checkpoint was saved in 3 steps. It is saved after"):
        checkpoint_to_test(trainer, "best")


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


@pytest.mark.parametrize(("missing", "drawn"), [({"val"}, True), ({"val", "test"}, False)])
def test_figures_need_no_validation_set(tiny_run: TinyRun, caplog, missing: set[str], drawn: bool) -> None:
    cfg = tiny_run()
    callback = build(cfg.callbacks.figures)
    trainer = SimpleNamespace(fast_dev_run=False, strategy=None, loggers=[], global_step=8)
    data = TinyData()
    batches = {"val": data.val_dataloader(), "test": data.test_dataloader()} | {name: [] for name in missing}
    trainer.datamodule = SimpleNamespace(val_dataloader=lambda: batches["val"], test_dataloader=lambda: batches["test"])
    trainer.precision_plugin = SimpleNamespace(forward_context=nullcontext)
    callback.draw(trainer, build_module(cfg, data))
    assert (Path(cfg.paths.run_dir) / "figures" / "mask_layer_1.png").is_file() == drawn
    assert ("neither the validation nor the test set has a scene to draw" in caplog.text) != drawn


def test_a_run_without_a_validation_set_ends_with_figures(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TinyData, "val_dataloader", lambda self: DataLoader([]))
    cfg = tiny_run("floors.enabled=false")
    train(cfg)
    assert results(cfg)["status"] == "completed"
    assert (Path(cfg.paths.run_dir) / "figures" / "mask_layer_1.png").is_file()
