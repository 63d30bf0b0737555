"""The runs of a sweep's rows: by identity under paths.log_dir, and in the csv files of `sweep.known`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from configs.identity import identity, setting_id
from scripts.report import not_counted
from scripts.table.expected import Expected
from scripts.table.rungs import rung_of
from scripts.table.summary import NEVER, Row
from tasks.common.cells import short
from tasks.common.known_runs import INTERRUPTED, runs
from tasks.common.run_rows import read_rows, record_of

FAILED, UNFINISHED, LEFT_OUT = "failed", "unfinished", "not counted"
Files = Mapping[str, Mapping[str, Mapping[str, str]]]  # rows of csv files by path and identity


def files_of(cfg: DictConfig) -> Files:
    """The csv files that `sweep.known` names. Raises RowsError for one that is none."""
    return {path: read_rows(Path(path)) for path in cfg.sweep.known}


def filled(expected: Expected, files: Files) -> Row:
    """A row with its runs. Raises DataError for a damaged record, RowsError for a damaged row of a csv file."""
    mask = OmegaConf.to_container(expected.cfg.mask, resolve=True)
    row = Row(expected.label, setting_id(expected.cfg), expected.overrides, expected.seeds, steps=expected.steps)
    row.rung, row.fusion = rung_of(mask), mask["fusion"]
    for seed in expected.seeds:
        with expected.at(seed) as cfg:
            found = run_of(cfg, files)
        if isinstance(found, str):
            row.missing[seed] = found
        else:
            row.runs[seed] = found
    return row


def run_of(cfg: DictConfig, files: Files) -> dict[str, Any] | str:
    """The newest completed run of a configuration, with its `folder`, or why there is none."""
    plain = OmegaConf.to_container(cfg, resolve=True)
    mine = identity(plain)
    there = runs(cfg, mine)
    for folder, record in reversed(there):
        if not not_counted(record):
            return record | {"folder": folder}
    if (path := next((path for path, rows in files.items() if mine in rows), None)) is not None:
        from tasks.common.results import (
            settings_of,
        )  # imports Lightning, which a table without such files can do without

        return record_of(files[path][mine], settings_of(plain), path) | {"folder": None}
    return why(there[-1][1]) if there else NEVER


def why(record: Mapping[str, Any]) -> str:
    """Why a run that is there does not count."""
    error = record.get("error") or {}
    if record["status"] == "running" or error.get("type") in INTERRUPTED:
        return f"{UNFINISHED}: still runs, or was killed" if not error else f"{UNFINISHED}: {error['type']}"
    if record["status"] == "failed":
        text = f"{error.get('type', 'unknown error')}: {error.get('message', '')}"
        return f"{FAILED}: {short(text.removesuffix(': '))}"
    return f"{LEFT_OUT}: {not_counted(record)}"
