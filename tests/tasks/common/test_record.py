"""results.json is whole and true at any time."""

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tasks.common.interrupts import Terminated
from tasks.common.results import RunRecord

TinyRun = Callable[..., DictConfig]


def read(cfg: DictConfig) -> dict:
    return json.loads((Path(cfg.paths.run_dir) / "results.json").read_text(encoding="utf-8"))


def test_it_says_running_from_the_first_line_on(tiny_run: TinyRun) -> None:
    cfg = tiny_run()
    with RunRecord(cfg) as record:
        assert read(cfg)["status"] == "running"  # what a run killed outright leaves behind
        record.update(metrics={"error": 1.0})
        assert (read(cfg)["status"], read(cfg)["metrics"]) == ("running", {"error": 1.0})
    assert read(cfg)["status"] == "completed"


@pytest.mark.parametrize(
    "error", [ValueError("told"), KeyboardInterrupt("told"), SystemExit("told"), MemoryError("told")]
)
def test_it_keeps_the_error(tiny_run: TinyRun, error: BaseException) -> None:
    cfg = tiny_run()
    with pytest.raises(type(error)), RunRecord(cfg):
        raise error
    assert read(cfg)["status"] == "failed"
    assert read(cfg)["error"] == {"type": type(error).__name__, "message": "told"}


def test_sigterm_closes_it_and_the_old_handler_returns(tiny_run: TinyRun) -> None:
    cfg, before = tiny_run(), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), RunRecord(cfg):
        signal.raise_signal(signal.SIGTERM)
    assert read(cfg)["error"]["type"] == "Terminated"
    assert signal.getsignal(signal.SIGTERM) is before


def test_it_holds_the_settings_of_task_and_trainer(tiny_run: TinyRun) -> None:
    cfg = tiny_run("trainer.gradient_clip_val=0.5", task={"lr": 0.25})
    with RunRecord(cfg):
        pass
    assert read(cfg)["task"] == {"_target_": "tests.tasks.common.tiny.TinyTask", "lr": 0.25}
    assert (read(cfg)["trainer"]["max_steps"], read(cfg)["trainer"]["gradient_clip_val"]) == (8, 0.5)
    assert "default_root_dir" not in read(cfg)["trainer"]  # another one in every run


def test_a_field_nobody_reads_is_refused(tiny_run: TinyRun) -> None:
    with pytest.raises(KeyError, match="metricz"), RunRecord(tiny_run()) as record:
        record.update(metricz={})


def test_a_nan_is_null_and_the_file_strict_json(tiny_run: TinyRun) -> None:
    cfg = tiny_run()
    with RunRecord(cfg) as record:
        record.update(metrics={"error": float("nan"), "other": [float("inf"), 1.5]})
    assert read(cfg)["metrics"] == {"error": None, "other": [None, 1.5]}
    assert "NaN" not in (Path(cfg.paths.run_dir) / "results.json").read_text()
