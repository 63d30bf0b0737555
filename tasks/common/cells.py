"""The cells of a sweep: which run each has, and the lines that say what is missing.

A cell is one combination of a sweep's values. In the multirun's folder `cells.jsonl` has a line per cell, written
before any job starts. To `jobs.jsonl` every job adds a line when it starts and when it fails, in whichever process;
later lines of the same job win. Together with the runs' results.json they say at any time what counts and what not.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.command_line import unmarked

CELLS = "cells.jsonl"
JOBS = "jobs.jsonl"
STATES = ("counted", "not counted", "failed", "never ran")  # not counted: a debug run
SHOWN = 6  # as many cells are named in the first line; all of them below the table


@dataclass
class Cell:
    """One combination of a sweep's values.

    identity: see configs/identity.py; None if nothing is skipped.
    number: the number of the job that runs it; None if its result is known already, or if an equal cell runs.
    folder: the folder of its run, if that is known before the job starts.
    source: the csv file that the result was read from.
    """

    overrides: list[str]
    identity: str | None = None
    number: int | None = None
    folder: str | None = None
    source: str | None = None


def append(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Appends JSON objects in one write, so that lines of several processes do not mix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def note_cells(sweep: Path, cells: Iterable[Cell]) -> None:
    append(sweep / CELLS, [asdict(cell) for cell in cells])


def note_job(sweep: Path, number: int, **facts: Any) -> None:
    """facts: the `folder` of the job's run, the id of its `process`, the `error` by which it failed."""
    append(sweep / JOBS, [{"number": number, **facts}])


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of notes; none if there is no file. A last line that was cut off by a kill is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


@dataclass
class Outcome:
    """What became of a cell: `state` is one of STATES; `why` it does not count."""

    label: str
    state: str
    why: str = ""
    folder: Path | None = None
    known: bool = False
    source: str | None = None

    def __str__(self) -> str:
        return f"{self.label}: {self.why}" if self.why else self.label


def outcomes(sweep: Path) -> list[Outcome]:
    """What became of each cell of a multirun's folder, in the order of the cells."""
    cells = [Cell(**row) for row in rows_of(sweep / CELLS)]
    jobs: dict[int, dict[str, Any]] = {}
    for row in rows_of(sweep / JOBS):
        jobs[row["number"]] = jobs.get(row["number"], {}) | row
    numbers = {cell.identity: cell.number for cell in cells if cell.number is not None}
    found = []
    for cell, label in zip(cells, labels(cells), strict=True):
        if cell.folder is not None:
            found.append(Outcome(label, "counted", folder=Path(cell.folder), known=True, source=cell.source))
            continue
        number = numbers.get(cell.identity) if cell.number is None else cell.number
        found.append(outcome(label, jobs.get(number)))
    return found


def outcome(label: str, job: dict[str, Any] | None) -> Outcome:
    """What became of a cell whose job left these notes."""
    if job is None:
        return Outcome(label, "never ran")
    folder = Path(job["folder"]) if job.get("folder") else None
    path = folder / "results.json" if folder else None
    if path is None or not path.is_file():
        return Outcome(label, "failed", job.get("error") or "ended before its record began", folder)
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["status"] == "completed":
        return Outcome(label, "counted", folder=folder)
    if record["status"] == "running":
        return Outcome(label, "failed", job.get("error") or "killed", folder)
    error = record.get("error") or {}
    text = f"{error.get('type', 'unknown error')}: {error.get('message', '')}"
    return Outcome(label, "failed", short(text.removesuffix(": ")), folder)


def short(text: str, longest: int = 120) -> str:
    """The first line of a message, cut at `longest` characters."""
    line = text.strip().split("\n")[0]
    return line if len(line) <= longest else line[: longest - 3] + "..."


def labels(cells: Sequence[Cell]) -> list[str]:
    """Each cell by those of its overrides that not all cells have; all of them if there is one cell only."""
    shown = [unmarked([word for word in cell.overrides if not word.startswith("hydra.")]) for cell in cells]
    count = Counter(word for words in shown for word in set(words))
    names = [" ".join(word for word in words if count[word] < len(cells)) for words in shown]
    return [name or " ".join(words) for name, words in zip(names, shown, strict=True)]


def first_line(found: Sequence[Outcome]) -> str:
    """`56 jobs: 54 counted, 1 failed (seed=3: killed by SIGKILL), 1 never ran (seed=5)`."""
    parts = []
    for state in STATES:
        those = [one for one in found if one.state == state]
        if not those and state != "counted":
            continue
        if state == "counted":
            known, files = [one for one in those if one.known], dict.fromkeys(o.source for o in those if o.source)
            detail = f" ({len(known)} known before{', from ' + ', '.join(files) if files else ''})" if known else ""
        else:
            more = f"; and {len(those) - SHOWN} more" if len(those) > SHOWN else ""
            detail = f" ({'; '.join(map(str, those[:SHOWN]))}{more})"
        parts.append(f"{len(those)} {state}{detail}")
    return f"{len(found)} job{'' if len(found) == 1 else 's'}: {', '.join(parts)}"


def missing_lines(found: Sequence[Outcome]) -> list[str]:
    """A line for each cell that does not count, where the first line cannot name them all."""
    missing = [one for one in found if one.state != "counted"]
    crowded = any(sum(one.state == state for one in missing) > SHOWN for state in STATES)
    return [f"- {one.state}: {one}" for one in missing] if crowded else []


def commits_line(runs: Iterable[dict[str, Any]]) -> str:
    """`runs of 2 commits: 1a2b3c4 (50), 5d6e7f8 with changes (4)`; empty if all runs are of one state of the code."""
    count = Counter(commit_of(run) for run in runs)
    if len(count) < 2:
        return ""
    return f"runs of {len(count)} commits: " + ", ".join(f"{name} ({number})" for name, number in count.items())


def commit_of(run: dict[str, Any]) -> str:
    git = run.get("git") or {}
    commit = git["commit"][:7] if git.get("commit") else "an unknown one"
    return f"{commit} with changes" if git.get("dirty") else commit
