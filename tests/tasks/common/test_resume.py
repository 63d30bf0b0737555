"""`resume=`: what it takes, what it refuses, and what it leaves. That it is exact is shown by test_torture.py."""

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from tasks.common.checkpoint_files import read_checkpoint
from tasks.common.errors import CheckpointError, StorageError
from tasks.common.resume import resumed
from tests.tasks.common import tiny
from train import train

TinyRun = Callable[..., DictConfig]
QUICK = (
    "floors.enabled=false",
    "callbacks.figures=null",
    "callbacks.progress_bar=null",
    "callbacks.model_summary=null",
)


def record_of(cfg: DictConfig) -> dict:
    return json.loads((Path(cfg.paths.run_dir) / "results.json").read_text(encoding="utf-8"))


def last(cfg: DictConfig) -> Path:
    return Path(cfg.paths.run_dir) / "checkpoints" / "last.ckpt"


def stopped(run: TinyRun, *overrides: str) -> DictConfig:
    """A run that got SIGTERM in step 3 of 8."""
    cfg = run(*QUICK, *overrides, task={"fail": "terminate"})
    with pytest.raises(SystemExit):
        train(cfg)
    return cfg


def test_a_finished_run_can_be_resumed_it_tests_and_records(tiny_run: TinyRun) -> None:
    whole = tiny_run(*QUICK, "test_checkpoint=best", task={"lr": 1.5}, max_steps=12)  # the best weights are early ones
    train(whole)
    again = tiny_run(*QUICK, "test_checkpoint=best", f"resume={whole.paths.run_dir}", task={"lr": 1.5}, max_steps=12)
    train(again)
    first, second = record_of(whole), record_of(again)
    assert second["metrics"] == first["metrics"] and second["status"] == "completed"
    assert second["resumed_from"] == str(last(whole)) and first["resumed_from"] is None
    assert second["checkpoints"] == {"last": "checkpoints/last.ckpt", "best": "checkpoints/best.ckpt"}
    for name in ("last.ckpt", "best.ckpt"):
        assert last(again).with_name(name).read_bytes() == last(whole).with_name(name).read_bytes()
    assert second["seconds"]["fit"] >= first["seconds"]["fit"] * 0.5  # of both parts
    logged = [(Path(cfg.paths.run_dir) / "metrics.csv").read_text().splitlines() for cfg in (whole, again)]
    assert [row for row in logged[0] if row in logged[1]] and len(logged[1]) == len(logged[0])


def test_what_an_early_stop_ended_is_not_trained_on(tiny_run: TinyRun) -> None:
    stop = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1")
    whole = tiny_run(*stop, *QUICK, task={"lr": 1.5}, max_steps=40)
    train(whole)
    step = torch.load(last(whole), weights_only=True)["global_step"]
    assert 4 <= step < 40
    again = tiny_run(*stop, *QUICK, f"resume={whole.paths.run_dir}", task={"lr": 1.5}, max_steps=40)
    train(again)
    assert torch.load(last(again), weights_only=True)["global_step"] == step
    assert record_of(again)["metrics"] == record_of(whole)["metrics"]


def test_the_best_checkpoint_comes_along_also_from_a_folder_that_was_moved(tiny_run: TinyRun, tmp_path: Path) -> None:
    cfg = tiny_run(*QUICK, "test_checkpoint=best")
    train(cfg)
    moved = tmp_path / "moved"
    shutil.move(cfg.paths.run_dir, moved)
    again = tiny_run(*QUICK, "test_checkpoint=best", f"resume={moved}")
    train(again)
    assert last(again).with_name("best.ckpt").read_bytes() == (moved / "checkpoints" / "best.ckpt").read_bytes()
    (moved / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(CheckpointError, match=r"the best checkpoint is gone from .*moved/checkpoints"):
        train(tiny_run(*QUICK, "test_checkpoint=best", f"resume={moved}"))


@pytest.mark.parametrize(
    ("changes", "task", "words"),
    [
        (["mask.depth=5"], {}, "mask.depth: 5 given, 2 in the checkpoint"),
        (["mask.fusion=add"], {}, "mask.fusion: add given, mul in the checkpoint"),
        (["seed=4"], {}, "seed: 4 given, 0 in the checkpoint"),
        ([], {"lr": 0.1}, r"task.lr: 0.1 given, - in the checkpoint"),
        (["+trainer.accumulate_grad_batches=2"], {}, "trainer.accumulate_grad_batches: 2 given"),
    ],
)
def test_other_settings_are_refused_by_name(tiny_run: TinyRun, finished, changes, task, words) -> None:
    cfg = tiny_run(*QUICK, *changes, f"resume={finished}", task=task)
    with pytest.raises(CheckpointError, match=words):
        train(cfg)
    assert not Path(cfg.paths.run_dir).exists()  # nothing was begun


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.tasks.common.tiny import tiny_config

    cfg = tiny_config(tmp_path_factory.mktemp("finished"), *QUICK)
    train(cfg)
    return Path(cfg.paths.run_dir)


def test_settings_that_change_no_result_may_differ(tiny_run: TinyRun, finished: Path) -> None:
    cfg = tiny_run(*QUICK, "optimized_metric=train/loss", "callbacks.last.save_minutes=1", f"resume={finished}")
    assert resumed(cfg).step == 8


def test_a_path_that_is_no_run_is_refused(tiny_run: TinyRun, tmp_path: Path, finished: Path) -> None:
    (tmp_path / "empty").mkdir()
    weights = tmp_path / "weights.ckpt"
    torch.save({"state_dict": {}}, weights)
    for path, words in (
        (tmp_path / "none", "no such file or folder"),
        (tmp_path / "empty", "has no checkpoints/last.ckpt: the run ended before its first"),
        (weights, "it holds weights, but not the state of a training"),
    ):
        with pytest.raises(CheckpointError, match=words):
            resumed(tiny_run(f"resume={path}"))
    for path in (finished, finished / "checkpoints", finished / "checkpoints" / "last.ckpt"):
        assert resumed(tiny_run(*QUICK, f"resume={path}")).path == finished / "checkpoints" / "last.ckpt"


def test_auto_takes_the_newest_unfinished_run_of_the_same_settings(tiny_run: TinyRun) -> None:
    auto = (*QUICK, "resume=auto")
    assert resumed(tiny_run(*auto, task={"fail": "terminate"})) is None
    first = stopped(tiny_run)
    second = stopped(tiny_run)
    assert resumed(tiny_run(*auto)) is None  # other settings
    third = tiny_run(*auto, task={"fail": "terminate"})
    assert resumed(third).path == last(second)
    train(third)  # its step 3 is done
    assert record_of(third)["resumed_from"] == str(last(second))
    assert resumed(tiny_run(*auto, task={"fail": "terminate"})).path == last(first)  # the second was completed


def test_a_checkpoint_amid_an_accumulation_is_refused_and_the_last_one_is_not(tiny_run: TinyRun) -> None:
    def accumulating(*overrides: str) -> DictConfig:
        cfg = tiny_run(*QUICK, "+trainer.accumulate_grad_batches=3", *overrides)
        cfg.trainer.update(val_check_interval=5, check_val_every_n_epoch=None)
        return cfg

    cfg = accumulating("callbacks.checkpoint.filename='after{step}'", "callbacks.checkpoint.save_top_k=-1")
    train(cfg)
    # four batches per epoch, updates after the third and the fourth: batch 5 is amid an accumulation, batch 15 is not
    amid, whole = (Path(cfg.paths.run_dir) / "checkpoints" / f"after{step}.ckpt" for step in (2, 7))
    with pytest.raises(CheckpointError, match="amid an accumulation of gradients"):
        resumed(accumulating(f"resume={amid}"))
    assert resumed(accumulating(f"resume={whole}")).step == 7
    assert resumed(accumulating(f"resume={cfg.paths.run_dir}")).step == 8


def test_the_epochs_loss_is_of_the_whole_epoch(tiny_run: TinyRun) -> None:
    cfg = stopped(tiny_run, "++trainer.limit_train_batches=4")
    state = torch.load(last(cfg), weights_only=True)["exact_resume"]["ranks"][0]
    assert state["epoch_loss"]["count"] == 32
    again = tiny_run(*QUICK, "++trainer.limit_train_batches=4", "resume=auto", task={"fail": "terminate"}, max_steps=8)
    train(again)
    assert record_of(again)["metrics"]["train_loss"] > 0


def test_a_full_disk_ends_the_run_with_one_line_and_the_last_good_checkpoint(tiny_run, monkeypatch) -> None:
    """In step 3 files stop growing, so the checkpoint after the second validation has no room."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, limit[1])) or 1.0  # noqa: E731
    monkeypatch.setitem(tiny.FAILURES, "full", full)
    cfg = tiny_run(*QUICK, task={"fail": "full"}, data={"batch_size": 16})
    try:
        with pytest.raises(StorageError) as raised:
            train(cfg)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    (line,) = str(raised.value).splitlines()
    assert "ckpt cannot be written: File too large" in line and "mounted at" in line
    record = record_of(cfg)
    assert (record["status"], record["error"]) == ("failed", {"type": "StorageError", "message": line})
    assert read_checkpoint(last(cfg))["global_step"] == 2
    assert not list(Path(cfg.paths.run_dir).rglob(".*.*"))


@pytest.mark.slow
def test_a_resumed_run_continues_its_wandb_run(tiny_run: TinyRun) -> None:
    first = stopped(tiny_run, "logger=many")
    second = tiny_run(*QUICK, "logger=many", "resume=auto", task={"fail": "terminate"})
    train(second)
    run = record_of(first)["wandb"]
    assert run and record_of(second)["wandb"] == run
    for cfg in (first, second):
        (folder,) = Path(cfg.paths.run_dir).glob("wandb/offline-run-*")
        assert folder.name.endswith(f"-{run}")
