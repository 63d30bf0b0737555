"""The table of a multirun, and a sweep that goes on with the same command."""

import csv
import json
import subprocess
from importlib import import_module
from pathlib import Path
from types import GenericAlias

import pytest

from tasks.common.cells import Cell, note_cells, note_job
from tests.programs import started
from tests.scripts.test_report import run

SWEEP = """
import sys
from pathlib import Path
from omegaconf import OmegaConf
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from tasks.common.sweep import SweepTable

folder, job, ending = sys.argv[1:]
hydra = {"mode": RunMode.MULTIRUN, "sweep": {"dir": folder}, "runtime": {"output_dir": job}, "job": {"num": 0}}
cfg = OmegaConf.create({"hydra": {**hydra, "launcher": {"_target_": "basic"}}})
table = SweepTable()
table.on_multirun_start(cfg)
table.on_job_start(cfg)
table.on_job_end(cfg, JobReturn(status=JobStatus.COMPLETED))
if ending == "whole":
    table.on_multirun_end(cfg)
    print("made", flush=True)
else:
    raise SystemExit(1)
"""


def swept(folder: Path, ending: str, **environment: str) -> tuple[subprocess.CompletedProcess, Path]:
    job = folder / "job"
    job.mkdir()
    (job / "results.json").write_text(json.dumps(run("alone", cider=2.5)), encoding="utf-8")
    note_cells(folder / "sweep", [Cell(["seed=0"], number=0), Cell(["seed=1"], number=1)])
    return started("-c", SWEEP, str(folder / "sweep"), str(job), ending, **environment), folder / "sweep" / "table.md"


def test_a_sweep_that_a_failed_job_ended_has_its_table(tmp_path: Path) -> None:
    done, table = swept(tmp_path, "broken")
    assert done.returncode == 1
    text = table.read_text(encoding="utf-8")
    assert text.startswith("2 jobs: 1 counted, 1 never ran (seed=1)\n\n| experiment |")
    assert "| alone | 1 | 2.50 |" in text


def test_a_whole_sweep_has_its_table_at_its_end(tmp_path: Path) -> None:
    done, table = swept(tmp_path, "whole")
    assert (done.returncode, done.stdout) == (0, "made\n"), done.stderr
    assert "| alone | 1 | 2.50 |" in table.read_text(encoding="utf-8")


def test_other_ranks_note_nothing_and_make_no_table(tmp_path: Path) -> None:
    done, table = swept(tmp_path, "whole", LOCAL_RANK="1")
    assert (done.returncode, table.exists()) == (0, False), done.stderr
    assert not (tmp_path / "sweep" / "jobs.jsonl").exists()


def test_a_sweep_without_a_counted_run_has_its_line(tmp_path: Path) -> None:
    note_cells(tmp_path, [Cell(["seed=0"], number=0)])
    note_job(tmp_path, 0, error="seed: 1.5 is not a whole number")
    done = started("-m", "scripts.report", "--sweep", str(tmp_path))
    assert done.stdout == "1 job: 0 counted, 1 failed (seed=0: seed: 1.5 is not a whole number)\n"
    done = started("-m", "scripts.report", "--sweep", str(tmp_path / "other"))
    assert (done.returncode, done.stderr) == (1, f"{tmp_path / 'other'}: no sweep wrote cells.jsonl here\n")


@pytest.mark.parametrize("name", ["going_on", "local_launcher", "rows_sweeper"])
def test_hydra_takes_nothing_but_classes_for_plugins(name: str) -> None:
    """On Python 3.10 an alias such as `tuple[int, str]` is a class for inspect, and none for issubclass."""
    module = import_module(f"hydra_plugins.lcaam_sweeps.{name}")
    assert not [key for key, value in vars(module).items() if isinstance(value, GenericAlias)]


# -- through train.py -------------------------------------------------------------------------------------------------

LEAST = ["-m", "experiment=qvhighlights_baseline", "scale=smoke", "floors.enabled=false", "logger=csv",
         "callbacks=none", "hydra/launcher=local", "sweep.skip_completed=true"]  # fmt: skip
UNSEEN = "hydra.searchpath=[]"  # with other files the first look at the values is left out, so a job meets a wrong one


def sweep(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess, str]:
    """The program's end and its table."""
    places = [f"paths.log_dir={folder}/logs", f"paths.data_dir={folder.parent}/data"]
    done = started("train.py", *LEAST, *places, *arguments)
    return done, max(folder.glob("logs/multirun/*/table.md")).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[subprocess.CompletedProcess, str]]]:
    """A sweep with one job that cannot run, and then with another one in its place."""
    folder = tmp_path_factory.mktemp("sweep") / "first"
    return folder, [sweep(folder, "seed=0,-1", UNSEEN), sweep(folder, "seed=0,1")]


def completed(folder: Path) -> list[int]:
    records = [json.loads(path.read_text()) for path in folder.glob("logs/*/smoke/*/*/results.json")]
    return sorted(record["seed"] for record in records if record["status"] == "completed")


def test_every_failed_job_is_told_with_its_reason(twice) -> None:
    (done, table), _ = twice[1]
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    reason = "seed: -1 is out of range; allowed: 0 to 4294967295"
    assert reason in done.stderr
    assert table.startswith(f"2 jobs: 1 counted, 1 failed (seed=-1: {reason})\n\n| experiment | seeds |")
    assert "| qvhighlights_baseline | 1 |" in table


def test_the_next_sweep_runs_only_what_is_missing(twice) -> None:
    folder, (_, (done, table)) = twice
    assert done.returncode == 0, done.stderr
    assert completed(folder) == [0, 1], "none ran twice"
    assert table.startswith("2 jobs: 2 counted (1 known before)\n")
    assert "| qvhighlights_baseline | 2 |" in table


def test_runs_of_a_committed_csv_count_as_completed(twice, tmp_path: Path) -> None:
    folder, (_, (_, before)) = twice
    rows = tmp_path / "rows.csv"
    done = started("-m", "scripts.report", str(folder / "logs"), "--csv", str(rows))
    assert done.returncode == 0, done.stderr
    assert f"{rows}: 2 runs" in done.stderr
    done, table = sweep(tmp_path / "elsewhere", "seed=0,1", f"sweep.known=[{rows}]")
    assert done.returncode == 0, done.stderr
    assert completed(tmp_path / "elsewhere") == []
    first, *rest = table.split("\n")
    assert first == f"2 jobs: 2 counted (2 known before, from {rows})"
    assert rest == before.split("\n")[1:]
    rows.write_text(rows.read_text().replace("identity", "identitty"), encoding="utf-8")
    done = started("train.py", *LEAST, f"paths.log_dir={tmp_path}/third", "seed=0,1", f"sweep.known=[{rows}]")
    assert done.returncode == 1
    assert f"sweep.known: {rows}: lacks the columns identity; `python -m scripts.report logs --csv FILE`" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_csv_keeps_what_it_has(twice, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    for seed in (0, 1, 1):
        place = twice[0] / "logs" / "qvhighlights_baseline" / "smoke" / f"seed{seed}"
        assert started("-m", "scripts.report", str(place), "--csv", str(rows)).returncode == 0
    with rows.open(encoding="utf-8", newline="") as file:
        assert [row["seed"] for row in csv.DictReader(file)] == ["0", "1"]
