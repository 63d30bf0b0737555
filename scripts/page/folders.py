"""Any run folders as tables: runs of one setting are a row, and every task, scale and data set is a table."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.errors import listed, nearest
from scripts.report import Group, first_of, groups, load, names, setting, surroundings
from scripts.table.contrasts import compared
from scripts.table.making import floors_of, states
from scripts.table.summary import Row, Table
from tasks.common.directions import higher_is_better

PRIMARY = ("exact", "mAP", "top1", "cider", "loss")  # of the tasks; the first that all runs of a table have


def tables_of(folders: Sequence[Path], command: str, metrics: Sequence[str] | None = None) -> list[Table]:
    """A table per task, scale and data set of the completed runs below the folders.

    metrics: which are shown, in this order, the first is the primary one; None: all. Raises ValueError: a folder that
    is not there, no completed run, a metric that no run has.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: there is no such folder; name one with run folders, such as logs")
    runs, others = load(*folders)
    if not runs:
        raise ValueError(
            f"{listed(map(str, folders))}: no completed run" + "".join(f"\nnot counted: {o}" for o in others)
        )
    there = list(dict.fromkeys(name for run in runs for name in run["metrics"]))
    if unknown := [name for name in metrics or () if name not in there]:
        raise ValueError(f"no run has the metric {unknown[0]!r}{nearest(unknown[0], there)} (metrics: {listed(there)})")
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for run in runs:
        found.setdefault(subject(run), []).append(run)
    tables = [table_of(about, runs, command, metrics) for about, runs in found.items()]
    shown = [table for table in tables if table.metrics]
    shown[0].remarks += [f"Not counted: {line}" for line in others]
    return shown


def subject(run: dict[str, Any]) -> tuple[str, str, str]:
    """Task, scale and data set: runs that differ in one of them are not compared."""
    target = str((run.get("task") or {}).get("_target_") or "")
    task = target.split(".")[1] if target.startswith("tasks.") else target or "unknown task"
    data = run.get("data") or {}
    name = str(data.get("name") or "unknown data")
    return task, str(run["scale"]), f"{name} (generated)" if data.get("mini") else name


def table_of(
    about: tuple[str, str, str], runs: list[dict[str, Any]], command: str, metrics: Sequence[str] | None
) -> Table:
    task, scale, data = about
    found = groups(runs)
    rows = [row_of(label, group) for label, group in zip(names(found), found, strict=True)]
    there = list(dict.fromkeys(name for run in runs for name in run["metrics"]))
    shown = [name for name in metrics if name in there] if metrics else there
    primary = shown[0] if metrics and shown else primary_of(runs, there)
    table = Table(
        name=f"{task.replace('_', ' ')} on {data}",
        question="What do these runs reach?",
        scale=scale,
        task=task,
        metrics=shown,
        primary=primary,
        higher_is_better=higher_is_better(primary),
        baseline="",
        rows=rows,
        contrasts=[],
        floors={},
        figure=None,
        command=command,
        commits=[],
        versions=[],
        remarks=[],
    )
    table.floors = floors_of(rows, table.remarks)
    plain = [row for row in rows if is_plain(first_of(row.runs).get("mask") or {})]
    if len(plain) == 1:
        table.baseline = plain[0].label
    for one in plain:
        like = [row for row in rows if surroundings(first_of(row.runs)) == surroundings(first_of(one.runs))]
        if sum(row in plain for row in like) == 1:
            table.contrasts += compared(replace(table, rows=like), [one], [], None)
    states(table)
    return table


def row_of(label: str, group: Group) -> Row:
    first = first_of(group)
    return Row(
        label=label,
        settings=hashlib.sha256(setting(first).encode()).hexdigest()[:16],
        overrides=[],
        expected=sorted(group),
        runs=dict(sorted(group.items())),
        published=first.get("paper") or {},
    )


def primary_of(runs: Iterable[dict[str, Any]], there: list[str]) -> str:
    in_all = [name for name in there if all(name in run["metrics"] for run in runs)]
    return next((name for name in PRIMARY if name in in_all), (in_all or there or ["none"])[0])


def is_plain(mask: dict[str, Any]) -> bool:
    """Without a mask and without a control: what others of the same data, task and trainer are compared with."""
    return mask.get("scope") == "none" and mask.get("control", "none") == "none"
