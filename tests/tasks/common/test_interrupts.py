"""Signals: the last step is saved, the record is closed, the exit code is the signal's."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from tasks.common import interrupts
from tasks.common.interrupts import INTERRUPTS, Terminated, exit_codes
from tests.programs import ROOT
from tests.tasks.common import tiny
from train import train

QUICK = ("floors.enabled=false", "callbacks.figures=null")


@pytest.mark.parametrize(
    ("number", "code", "kind"),
    [
        (signal.SIGTERM, 143, "Terminated"),
        (signal.SIGINT, 130, "KeyboardInterrupt"),
        (signal.SIGHUP, 129, "Terminated"),
    ],
)
def test_a_signal_in_training_saves_the_step_that_it_came_in(
    tiny_run: Callable[..., DictConfig], monkeypatch, caplog, number: int, code: int, kind: str
) -> None:
    monkeypatch.setitem(tiny.FAILURES, "terminate", lambda: os.kill(os.getpid(), number) or 1.0)
    cfg = tiny_run(*QUICK, "++trainer.limit_train_batches=8", "data.batch_size=4", task={"fail": "terminate"})
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        train(cfg)
    assert ended.value.code == code
    folder = Path(cfg.paths.run_dir)
    record = json.loads((folder / "results.json").read_text())
    assert (record["status"], record["error"]["type"]) == ("failed", kind)
    assert record["checkpoints"] == {"last": "checkpoints/last.ckpt"}
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
    assert f"it goes on with resume={folder}" in caplog.text
    assert signal.getsignal(number) is before


def test_a_signal_in_a_validation_leaves_it_and_the_resumed_run_makes_it_anew(tiny_run, monkeypatch) -> None:
    whole = tiny_run(*QUICK, "test_checkpoint=best")
    train(whole)
    step, seen = tiny.TinyTask.validation_step, []

    def stopping(self: tiny.TinyTask, batch: dict, index: int) -> None:
        step(self, batch, index)
        seen.append(self.global_step)
        if seen.count(8) == 1 and index == 0 and self.global_step == 8:  # amid the validation after the last step
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(tiny.TinyTask, "validation_step", stopping)
    cut = tiny_run(*QUICK, "test_checkpoint=best")
    with pytest.raises(SystemExit):
        train(cut)
    assert torch.load(Path(cut.paths.run_dir) / "checkpoints" / "last.ckpt", weights_only=True)["in_validation"]
    again = tiny_run(*QUICK, "test_checkpoint=best", f"resume={cut.paths.run_dir}")
    train(again)
    assert seen.count(8) == 1 + 4  # one batch, then the whole validation
    records = [json.loads((Path(cfg.paths.run_dir) / "results.json").read_text()) for cfg in (whole, again)]
    assert records[0]["metrics"] == records[1]["metrics"]
    best = [Path(cfg.paths.run_dir) / "checkpoints" / "best.ckpt" for cfg in (whole, again)]
    assert len({torch.load(path, weights_only=True)["global_step"] for path in best}) == 1


def test_the_second_signal_does_not_wait() -> None:
    with INTERRUPTS.installed():
        INTERRUPTS.defer()
        signal.raise_signal(signal.SIGTERM)
        assert INTERRUPTS.pending == signal.SIGTERM
        with pytest.raises(Terminated, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_outside_of_a_training_does_not_wait() -> None:
    with pytest.raises(SystemExit) as ended, exit_codes(), INTERRUPTS.installed():
        signal.raise_signal(signal.SIGHUP)
    assert ended.value.code == 129


def test_other_ends_keep_their_exit_code() -> None:
    with pytest.raises(SystemExit) as ended, exit_codes():
        raise SystemExit(7)
    assert ended.value.code == 7


def test_slurm_is_asked_to_queue_the_job_again(monkeypatch, tmp_path: Path, caplog) -> None:
    program = tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert signal.SIGUSR1 in interrupts.signals()
    with caplog.at_level(logging.WARNING):
        interrupts.requeue()
    assert (tmp_path / "asked").read_text() == "requeue 12\n"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    interrupts.requeue()
    assert (tmp_path / "asked").read_text() == "requeue 7_3\n"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_command_saves_says_how_to_go_on_and_ends_with_the_signals_code(tmp_path: Path, number, code) -> None:
    places = (f"paths.log_dir={tmp_path}/logs", f"paths.data_dir={tmp_path}/data")
    run = ("experiment=qvhighlights_lcaam", "scale=smoke", *QUICK, "trainer.max_steps=100000", *places)
    with subprocess.Popen([sys.executable, "train.py", *run], cwd=ROOT, stderr=subprocess.STDOUT, stdout=-1) as process:
        until = time.monotonic() + 200
        while not (saved := list(tmp_path.rglob("last.ckpt"))) and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(number)
        output = process.communicate(timeout=100)[0].decode()
    assert process.returncode == code, output
    (record,) = tmp_path.rglob("results.json")
    assert f"it goes on with resume={record.parent}" in output and "Traceback" not in output
    fields = json.loads(record.read_text())
    assert fields["status"] == "failed" and fields["checkpoints"]["last"] == "checkpoints/last.ckpt"
    assert torch.load(saved[0], weights_only=True)["global_step"] >= 3
