"""Sweeps under kill -9, many runs in one sweep, and ranks in a sweep; what the commands call a fault."""

import json
from pathlib import Path

import pytest

from scripts.torture import soak, sweep
from tests.programs import started


@pytest.mark.slow
def test_a_sweep_whose_jobs_and_launcher_are_killed_ends_whole(tmp_path: Path) -> None:
    seen = sweep.torture(tmp_path, seed=0)
    assert sweep.faults(seen) == [], seen
    assert seen["runs"]["completed"] == 12
    assert len(seen["did"]) == 5, "four jobs and the launcher"


@pytest.mark.slow
@pytest.mark.parametrize("per_process", [1, 4])
def test_many_runs_leave_nothing_behind(tmp_path: Path, per_process: int) -> None:
    seen = soak.soak(tmp_path, runs=8, at_once=2, per_process=per_process)
    left = ("processes_left", "temporary_files_left", "drafts_left")
    assert [seen[name] for name in left] == [[], [], []]
    assert seen["first_line"] == "8 jobs: 8 counted"
    assert len(seen["mb_per_run_of_a_shared_process"]) == (2 if per_process > 1 else 0)


@pytest.mark.slow
def test_ranks_of_a_job_write_into_its_folder_and_make_no_sweep_of_their_own(tmp_path: Path) -> None:
    ranks = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true"]
    options = ["experiment=qvhighlights_baseline", "scale=smoke", "seed=5,6", "floors.enabled=false", "logger=csv"]
    places = [f"paths.log_dir={tmp_path}/logs", f"paths.data_dir={tmp_path}/data"]
    done = started("train.py", "-m", *options, *ranks, *places, "callbacks=none", "sweep.skip_completed=true")
    assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = (tmp_path / "logs" / "multirun").iterdir()
    assert (folder / "table.md").read_text(encoding="utf-8").startswith("2 jobs: 2 counted\n")
    runs = [path for path in tmp_path.glob("logs/qvhighlights_baseline/smoke/seed*/*") if path.is_dir()]
    assert sorted(path.parent.name for path in runs) == ["seed5", "seed6"]
    for run in runs:
        record = json.loads((run / "results.json").read_text())
        assert (record["status"], record["trainer"]["devices"]) == ("completed", 2)


def test_torchrun_with_a_sweep_is_one_message(tmp_path: Path) -> None:
    settings = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    done = started("train.py", "-m", "seed=0,1", f"paths.log_dir={tmp_path}", **settings)
    assert done.returncode == 1
    assert "torchrun with several jobs: each process would run the whole sweep. Leave torchrun out" in done.stderr
    assert "Traceback" not in done.stderr


WHOLE = {
    "exit_codes_of_the_same_command_again": [0], "completed_cells": 12, "completed_twice": 0,
    "first_line": "12 jobs: 12 counted (4 known before)", "other_numbers_than_undisturbed": [],
    "table_as_undisturbed": True, "processes_left": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "fault"),
    [({}, None),
     ({"exit_codes_of_the_same_command_again": [1, 0]}, "the same command did not finish the sweep at once"),
     ({"completed_cells": 11}, "11 of 12 cells completed, 0 of them twice"),
     ({"completed_twice": 1}, "12 of 12 cells completed, 1 of them twice"),
     ({"first_line": "12 jobs: 11 counted"}, "12 jobs: 11 counted"),
     ({"other_numbers_than_undisturbed": ["a seed=1"]}, "other numbers: a seed=1"),
     ({"table_as_undisturbed": False}, "another table"), ({"processes_left": [7]}, "processes left: [7]")],
)  # fmt: skip
def test_every_loss_of_a_sweep_is_a_fault(changes: dict, fault: str | None) -> None:
    assert sweep.faults(WHOLE | changes) == ([] if fault is None else [fault])


FLAT = {
    "runs": 9, "at_once": 2, "exit_code": 0, "first_line": "9 jobs: 9 counted", "mb_per_run_of_the_sweep": 0.1,
    "mb_per_run_of_the_server": 0.0, "mb_per_run_of_a_shared_process": [], "open_files_of_the_sweep": [5, 9, 5],
    "processes_left": [], "temporary_files_left": [], "drafts_left": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "fault"),
    [({}, None), ({"mb_per_run_of_the_sweep": 1.1}, "memory grows by 1.1 MB per run"),
     ({"mb_per_run_of_a_shared_process": [0.5, 2.0]}, "memory grows by 2.0 MB per run"),
     ({"open_files_of_the_sweep": [5, 20, 20]}, "15 more open files"), ({"drafts_left": ["a"]}, "drafts_left: ['a']"),
     ({"exit_code": 1}, "exit code 1"), ({"first_line": "9 jobs: 8 counted"}, "9 jobs: 8 counted")],
)  # fmt: skip
def test_everything_that_piles_up_is_a_fault(changes: dict, fault: str | None) -> None:
    assert soak.faults(FLAT | changes) == ([] if fault is None else [fault])


def test_the_growth_of_memory_is_that_of_the_second_half() -> None:
    warm = [(run, 100.0 + 50 * min(run, 3)) for run in range(10)]
    assert soak.slope(warm) == 0.0
    assert soak.slope([(run, 2.5 * run) for run in range(10)]) == 2.5
    assert soak.slope([(1, 5.0)]) == 0.0
