"""Sweeps with the plugins of the extras slurm and optuna, if they are installed."""

import json
import subprocess
from pathlib import Path

import pytest

from configs.extras import missing_extra
from tests.programs import started

LEAST = ["experiment=qvhighlights_baseline", "scale=smoke", "floors.enabled=false", "logger=csv", "callbacks=none"]


def ran(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    if (missing := missing_extra(arguments)) is not None:
        pytest.skip(missing)
    places = [f"paths.log_dir={folder}/logs", f"paths.data_dir={folder}/data"]
    done = started("train.py", *LEAST, *places, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def records(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in folder.glob("logs/*/smoke/*/*/results.json")]


def test_submitit_s_local_jobs_are_skipped_the_second_time(tmp_path: Path) -> None:
    command = ["-m", "seed=0,1", "hydra/launcher=submitit_local", "sweep.skip_completed=true"]
    for first in ("2 jobs: 2 counted\n", "2 jobs: 2 counted (2 known before)\n"):
        ran(tmp_path, *command)
        tables = sorted(tmp_path.glob("logs/multirun/*/table.md"))
        assert tables[-1].read_text(encoding="utf-8").startswith(first)
    assert sorted(record["seed"] for record in records(tmp_path)) == [0, 1]


def test_optuna_optimises_a_validation_metric_and_keeps_its_study(tmp_path: Path) -> None:
    command = ["sweep=search", "hydra.sweeper.n_trials=1", "hydra/launcher=local", "mask=lcaam"]
    for trials in (1, 2):
        ran(tmp_path, *command)
        found = records(tmp_path)
        assert len(found) == trials
    assert (tmp_path / "logs" / "optuna.db").is_file()
    assert all(set(record["optimized"]) == {"val/loss"} for record in found)
    best = (max(tmp_path.glob("logs/multirun/*/optimization_results.yaml"))).read_text(encoding="utf-8")
    lowest = min(record["optimized"]["val/loss"] for record in found)
    assert f"best_value: {lowest}" in best
