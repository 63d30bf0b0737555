"""A sweep of 12 smoke runs in which jobs are killed at random, and then the launcher: is everything there in the end?

    python -m scripts.torture sweep                                       four jobs and the launcher
    python -m scripts.torture sweep --seed 3 --out docs/results/torture_sweep.json

The same command is then started again until nothing is missing, and its table is compared with that of a sweep that
nobody disturbed. Linux only. Ends with exit code 1 if a run is missing, ran twice, or ended with another number.
"""

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

from scripts.torture.sweeps import Sweep, left_over, started_sweep, table_of, told
from tasks.common.cells import JOBS, rows_of

CELLS = ("experiment=qvhighlights_baseline,qvhighlights_lcaam,qvhighlights_multi_lcaam", "seed=0,1,2,3")
LENGTH = ("trainer.max_steps=40", "trainer.val_check_interval=10", "sweep.skip_completed=true")
OPTIONS = (*CELLS, *LENGTH, "hydra.launcher.n_jobs=2")


def records(folder: Path) -> list[dict]:
    paths = folder.glob("logs/*/smoke/seed*/*/results.json")
    return [json.loads(path.read_text(encoding="utf-8")) | {"folder": path.parent.name} for path in paths]


def jobs_of(folder: Path) -> dict[int, dict]:
    """The notes of the newest sweep's jobs, by number."""
    newest = max(folder.glob(f"logs/multirun/*/{JOBS}"), default=None)
    found: dict[int, dict] = {}
    for row in rows_of(newest) if newest else []:
        found[row["number"]] = found.get(row["number"], {}) | row
    return found


def disturb(sweep: Sweep, folder: Path, victims: list[int], chance: random.Random) -> list[str]:
    """Kills the jobs `victims`, then the launcher while others run. Returns what it did.

    Every other victim dies some time after it began, the rest some time after their first checkpoint.
    """
    did: list[str] = []
    due: dict[int, float] = {}
    while sweep.process.poll() is None and (len(did) < len(victims) or not others(folder, victims)):
        for number, job in jobs_of(folder).items():
            late = number in victims[::2]
            if number in victims and number not in due and (not late or (checkpoints_of(job) / "last.ckpt").is_file()):
                due[number] = time.monotonic() + chance.uniform(0.0, 0.5 if late else 5.0)
        for number in [number for number, when in due.items() if when and when < time.monotonic()]:
            job, due[number] = jobs_of(folder)[number], 0.0
            status = (
                json.loads((Path(job["folder"]) / "results.json").read_text())["status"] if has_record(job) else "-"
            )
            try:
                os.kill(job["process"], signal.SIGKILL)
            except ProcessLookupError:
                status = "over"
            did.append(f"job {number} killed (status {status})")
        time.sleep(0.05)
    if sweep.process.poll() is None:
        time.sleep(chance.uniform(0.5, 3.0))
        sweep.process.kill()
        did.append(f"launcher killed when {len(jobs_of(folder))} jobs had begun")
    sweep.process.wait()
    return did


def checkpoints_of(job: dict) -> Path:
    return Path(job["folder"]) / "checkpoints"


def record_of(job: dict) -> dict:
    return json.loads((Path(job["folder"]) / "results.json").read_text(encoding="utf-8"))


def has_record(job: dict) -> bool:
    return (Path(job["folder"]) / "results.json").is_file()


def others(folder: Path, victims: list[int]) -> bool:
    """Whether a job after the last victim has a record, so that the launcher dies amid a run that nobody killed."""
    return any(number > max(victims) and has_record(job) for number, job in jobs_of(folder).items())


def torture(folder: Path, seed: int) -> dict:
    chance = random.Random(seed)
    victims = chance.sample(range(8), 4)
    (folder / "broken").mkdir()
    (folder / "whole").mkdir()
    broken = started_sweep(folder / "broken", *OPTIONS)
    did = disturb(broken, folder / "broken", victims, chance)
    codes = []
    for _ in range(3):
        again = started_sweep(folder / "broken", *OPTIONS)
        codes.append(again.process.wait())
        if codes[-1] == 0:
            break
    whole = started_sweep(folder / "whole", *OPTIONS)
    whole.process.wait()
    runs = records(folder / "broken")
    done = [run for run in runs if run["status"] == "completed"]
    expected = {run["identity"]: run["metrics"] for run in records(folder / "whole")}
    return {
        "seed": seed,
        "did": did,
        "exit_codes_of_the_same_command_again": codes,
        "runs": dict(Counter(run["status"] for run in runs)),
        "goes_on_from_a_checkpoint": sum(bool(run.get("resumed_from")) for run in done),
        "completed_cells": len({run["identity"] for run in done}),
        "completed_twice": len(done) - len({run["identity"] for run in done}),
        "other_numbers_than_undisturbed": sorted(
            f"{run['experiment']} seed={run['seed']}" for run in done if expected.get(run["identity"]) != run["metrics"]
        ),
        "first_line": table_of(folder / "broken").split("\n")[0],
        "table_as_undisturbed": scores(table_of(folder / "broken")) == scores(table_of(folder / "whole")),
        "processes_left": left_over(folder / "broken", broken.mark, folder)["processes_left"],
    }


def scores(table: str) -> list[list[str]]:
    """The table's rows without its last column, which is a time."""
    return [line.split("|")[1:-2] for line in table.split("\n") if line.startswith("|")]


def faults(seen: dict) -> list[str]:
    """What is not as it should be, in words."""
    found = []
    if seen["exit_codes_of_the_same_command_again"] != [0]:
        found.append("the same command did not finish the sweep at once")
    if (seen["completed_cells"], seen["completed_twice"]) != (12, 0):
        found.append(f"{seen['completed_cells']} of 12 cells completed, {seen['completed_twice']} of them twice")
    if not seen["first_line"].startswith("12 jobs: 12 counted"):
        found.append(seen["first_line"])
    if seen["other_numbers_than_undisturbed"]:
        found.append(f"other numbers: {', '.join(seen['other_numbers_than_undisturbed'])}")
    if not seen["table_as_undisturbed"]:
        found.append("another table")
    return found + ([f"processes left: {seen['processes_left']}"] if seen["processes_left"] else [])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="which jobs are killed, and when")
    parser.add_argument("--out", type=Path, help="add what was seen to the list in this JSON file")


def main(given: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as place:
        seen = torture(Path(place), given.seed)
    return told(seen | {"faults": faults(seen)}, given.out)
