"""Many smoke runs in one sweep: do files, processes, temporary files or memory pile up?

    python -m scripts.torture soak --runs 200                             a process per run
    python -m scripts.torture soak --runs 200 --per-process 50            runs that share a process
    python -m scripts.torture soak --runs 200 --out docs/results/soak.json

Looks into /proc, so Linux only. Ends with exit code 1 if anything is left over, or if memory grows by more than 1 MB
per run: that of the sweep's own process, of the server that it forks runs from, or of a process that runs share.
"""

import argparse
import re
import tempfile
import time
from pathlib import Path

import numpy as np

from scripts.torture.sweeps import left_over, processes_of, started_sweep, table_of, told
from tasks.common.cells import JOBS, rows_of

MOST = 1.0  # MB per run


def memory(process: int) -> float | None:
    """The resident memory of a process in MB; None if it is gone."""
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return None
    return None if found is None else int(found[1]) / 1024


def open_files(process: int) -> int | None:
    try:
        return sum(1 for _ in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return None


def slope(points: list[tuple[int, float]]) -> float:
    """Growth per run, of a straight line through the points; of the second half, since caches fill in the first."""
    half = points[len(points) // 2 :]
    if len({x for x, _ in half}) < 2:
        return 0.0
    x, y = np.array(half).T
    return round(float(np.polyfit(x, y, 1)[0]), 3)


def soak(folder: Path, runs: int, at_once: int, per_process: int) -> dict:
    """What was seen, by name."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True)
    begun = time.perf_counter()
    sweep = started_sweep(
        folder,
        "experiment=qvhighlights_baseline",
        f"seed=range({runs})",
        f"hydra.launcher.n_jobs={at_once}",
        f"hydra.launcher.jobs_per_process={per_process}",
        TMPDIR=str(temporary),
    )
    own, server, files, processes = [], [], [], []
    shared: dict[int, list[tuple[int, float]]] = {}
    while sweep.process.poll() is None:
        time.sleep(0.25)
        notes = [row for path in folder.glob(f"logs/multirun/*/{JOBS}") for row in rows_of(path)]
        begun_in = [row["process"] for row in notes if "process" in row]
        if not begun_in:
            continue
        count = len(begun_in)
        others = [pid for pid in processes_of(sweep.mark) if pid != sweep.process.pid]
        servers = [pid for pid in others if pid not in begun_in]
        own.append((count, memory(sweep.process.pid) or np.nan))
        server.append((count, max(filter(None, map(memory, servers)), default=np.nan)))
        files.append((count, open_files(sweep.process.pid) or np.nan))
        processes.append(len(others) + 1)
        for pid in set(begun_in) & set(others):
            if (now := memory(pid)) is not None:
                shared.setdefault(pid, []).append((begun_in.count(pid), now))
    seconds = time.perf_counter() - begun
    own, server, files = ([point for point in points if not np.isnan(point[1])] for points in (own, server, files))
    grown = [slope(points) for points in shared.values()] if per_process > 1 else []
    return {
        "runs": runs,
        "at_once": at_once,
        "runs_per_process": per_process,
        "exit_code": sweep.process.returncode,
        "first_line": table_of(folder).split("\n")[0],
        "seconds": round(seconds),
        "seconds_per_run": round(seconds / runs, 2),
        "memory_of_the_sweep_mb": [round(own[0][1]), round(own[-1][1])],
        "mb_per_run_of_the_sweep": slope(own),
        "memory_of_the_server_mb": [round(server[0][1]), round(server[-1][1])],
        "mb_per_run_of_the_server": slope(server),
        "mb_per_run_of_a_shared_process": grown,
        "open_files_of_the_sweep": [int(files[0][1]), int(max(y for _, y in files)), int(files[-1][1])],
        "most_processes": max(processes),
        **left_over(folder, sweep.mark, temporary),
    }


def faults(seen: dict) -> list[str]:
    """What is not as it should be, in words."""
    found = [] if seen["exit_code"] == 0 else [f"exit code {seen['exit_code']}"]
    if not seen["first_line"].startswith(f"{seen['runs']} jobs: {seen['runs']} counted"):
        found.append(seen["first_line"])
    rates = [seen["mb_per_run_of_the_sweep"], seen["mb_per_run_of_the_server"], *seen["mb_per_run_of_a_shared_process"]]
    found += [f"memory grows by {rate} MB per run" for rate in rates if rate > MOST]
    found += [
        f"{name}: {seen[name]}" for name in ("processes_left", "temporary_files_left", "drafts_left") if seen[name]
    ]
    first, _, last = seen["open_files_of_the_sweep"]
    return found + ([f"{last - first} more open files"] if last - first > 2 * seen["at_once"] else [])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--per-process", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write what was seen to this JSON file, as its last entry")


def main(given: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as place:
        seen = soak(Path(place), given.runs, given.at_once, given.per_process)
    return told(seen | {"faults": faults(seen)}, given.out)
