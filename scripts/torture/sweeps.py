"""What the commands `sweep` and `soak` share: a sweep of smoke runs in a process, and what it leaves behind."""

import json
import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.resolvers import ROOT

MARK = "LCAAM_TORTURE"  # an environment variable by which the processes of a sweep are found
CACHE = "torchinductor_"  # torch keeps one for all processes of a user
CHEAP = ("scale=smoke", "floors.enabled=false", "logger=csv", "callbacks.figures=null", "hydra/launcher=local")


@dataclass
class Sweep:
    process: subprocess.Popen
    mark: str


def started_sweep(folder: Path, *arguments: str, **environment: str) -> Sweep:
    """A sweep of smoke runs that writes below `folder`; its output goes to `folder`/sweep.log."""
    places = (f"paths.log_dir={folder}/logs", f"paths.data_dir={folder}/data")
    command = [sys.executable, "train.py", "-m", *CHEAP, *places, *arguments]
    mark = secrets.token_hex(8)
    with (folder / "sweep.log").open("ab") as output:
        settings = {**os.environ, "OMP_NUM_THREADS": "1", MARK: mark, **environment}
        process = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=output, stderr=subprocess.STDOUT)
    return Sweep(process, mark)


def processes_of(mark: str) -> list[int]:
    """The ids of all processes that were started below a sweep's, however they were started (Linux)."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:  # it ended, or belongs to somebody else
            continue
    return found


def table_of(folder: Path) -> str:
    """The table of the newest sweep; empty if there is none."""
    tables = sorted(folder.glob("logs/multirun/*/table.md"))
    return tables[-1].read_text(encoding="utf-8") if tables else ""


def left_over(folder: Path, mark: str, temporary: Path) -> dict[str, list]:
    """Processes, temporary files and drafts of files that a sweep that ended has left."""
    until = time.monotonic() + 60
    while processes_of(mark) and time.monotonic() < until:  # the server ends when it notices that nobody needs it
        time.sleep(0.2)
    drafts = [path for path in (folder / "logs").rglob(".*") if path.is_file() and path.suffix != ".lock"]
    return {
        "processes_left": processes_of(mark),
        "temporary_files_left": sorted(path.name for path in temporary.iterdir() if not path.name.startswith(CACHE)),
        "drafts_left": sorted(str(path.relative_to(folder)) for path in drafts),
    }


def told(seen: dict[str, Any], out: Path | None) -> int:
    """Prints what was seen and adds it to the list in the JSON file `out`; the exit status, by its `faults`."""
    print(json.dumps(seen, indent=2))
    if out:
        before = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else []
        out.write_text(json.dumps([*before, seen], indent=2) + "\n", encoding="utf-8")
    return 1 if seen["faults"] else 0
