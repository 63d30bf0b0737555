"""Rows of a table whose runs were tested again with other masks: `table.interventions: [frozen, swapped]`.

They need no training: `eval.py run=... intervention=frozen` tests the same weights, so they are paired within the run.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, listed, nearest
from hydra_plugins.lcaam_sweeps.local_launcher import cores
from lcaam.interventions import INTERVENTIONS
from scripts.table.rungs import EXPLAINED
from scripts.table.summary import Row, Table
from tasks.common.evaluations import evaluations

NOT_TESTED, NO_RUN = "not tested again", "no run to test again"


def check_names(names: Sequence[str]) -> None:
    """ConfigError for an intervention that there is not."""
    for name in names:
        if name not in INTERVENTIONS:
            hint = nearest(name, INTERVENTIONS)
            raise ConfigError(f"table.interventions: {name!r} is none{hint} (allowed: {listed(INTERVENTIONS)})")


def with_again(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
    """The rows, each one that reads its input followed by itself with each of the interventions.

    Raises DataError for a damaged evaluation.
    """
    found: list[Row] = []
    for row in rows:
        found.append(row)
        if row.own and row.rung in EXPLAINED:
            found += [again(row, name) for name in names]
    return found


def again(row: Row, name: str) -> Row:
    """The row of the same runs with an intervention."""
    made = Row(f"{row.label}, {name}", row.settings, [*row.overrides, f"intervention={name}"], row.expected)
    made.rung, made.fusion, made.of = name, row.fusion, row.label
    for seed in row.expected:
        run = row.runs.get(seed)
        found = None if run is None else tested(run, name)
        if found is None:
            made.missing[seed] = NO_RUN if run is None else NOT_TESTED
        else:
            made.runs[seed] = found
    return made


def tested(run: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The run's record with the metrics, and the folder, of its evaluation."""
    if run["folder"] is None:
        metrics = (run.get("interventions") or {}).get(name)
        return None if not metrics else run | {"metrics": metrics}
    there = evaluations(run["folder"], run).get(name)
    return None if there is None else run | {"folder": there[0], "metrics": there[1]}


def owed(tables: Iterable[Table]) -> list[list[str]]:
    """The words for eval.py of each evaluation that is missing and can be made."""
    found = []
    for table in tables:
        rows = {row.label: row for row in table.rows}
        for row in table.rows:
            for seed, why in row.missing.items():
                folder = rows[row.of].runs[seed]["folder"] if row.of and why == NOT_TESTED else None
                if folder is not None:
                    found.append([f"run={folder}", f"intervention={row.rung}"])
    return found


def make(wanted: Sequence[Sequence[str]]) -> None:
    """Makes the evaluations, one process per core, and says which of them failed."""
    print(f"{len(wanted)} runs are tested again with other masks", flush=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(cores(), len(wanted)), mp_context=context) as pool:
        jobs = {pool.submit(evaluated, list(words)): words for words in wanted}
        for job in as_completed(jobs):
            try:
                problem = job.result()
            except BrokenExecutor:  # a process was killed, and with it all that were waiting
                problem = "its process was killed"
            if problem:
                print(f"python eval.py {' '.join(jobs[job])}: {problem}", flush=True)


def evaluated(words: list[str]) -> str:
    """In a process of its own: makes one evaluation. Returns what went wrong, if anything did."""
    from eval import run_words

    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        try:
            run_words(words)
        except Exception as error:  # of one run: the others go on
            return f"{type(error).__name__}: {error}"
    return ""
