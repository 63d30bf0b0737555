"""Which runs a sweep has, from what it left behind: for commands that are given SWEEP.

found("table1a", Path("logs"))                       every multirun of configs/sweep/table1a.yaml below logs/
found("logs/multirun/2026-11-29_10-00-00", ...)      this multirun
found("logs/madv2_lcaam", ...)                       every run below a folder
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from configs.errors import listed, nearest
from configs.resolvers import ROOT
from tasks.common.cells import CELLS, outcomes

LOGS = ROOT / "logs"


@dataclass(frozen=True)
class Run:
    """A run's folder and its results.json. superseded: another run goes on with it, so it will not go on itself."""

    folder: Path
    record: dict[str, Any]
    superseded: bool = False


def found(sweep: str, logs: Path = LOGS) -> list[Run]:
    """The runs, oldest first, with the earlier parts of those that were resumed. Raises ValueError if there is none."""
    folder = Path(sweep)
    if folder.is_dir():
        folders = of_multirun(folder) if (folder / CELLS).is_file() else below(folder)
    else:
        folders = [run for multirun in multiruns(sweep, logs) for run in of_multirun(multirun)]
    runs = with_earlier_parts(folders)
    if not runs:
        raise ValueError(f"{sweep}: no run has begun there")
    return sorted(runs, key=lambda run: (run.record["started"], run.folder.name))


def multiruns(name: str, logs: Path) -> list[Path]:
    """The folders of a sweep's multiruns, oldest first."""
    names = sorted(path.stem for path in (ROOT / "configs" / "sweep").glob("*.yaml"))
    if name not in names:
        raise ValueError(f"{name}: neither a folder nor a sweep{nearest(name, names)} (sweeps: {listed(names)})")
    those = [path.parent for path in sorted(logs.glob(f"multirun/*/{CELLS}")) if name == name_of(path.parent)]
    if not those:
        raise ValueError(f"{name}: no multirun of this sweep below {logs}; name its folder, logs/multirun/<time>")
    return those


def label(sweep: str) -> str:
    """What SWEEP is called: its own name, that of a multirun's sweep, or the folder's."""
    return name_of(Path(sweep)) or Path(sweep).name


def name_of(multirun: Path) -> str | None:
    """The sweep that a multirun was started with, from the configuration that Hydra saves; None if it saved none."""
    path = multirun / "multirun.yaml"
    return OmegaConf.select(OmegaConf.load(path), "hydra.runtime.choices.sweep") if path.is_file() else None


def of_multirun(folder: Path) -> list[Path]:
    return [one.folder for one in outcomes(folder) if one.folder is not None]


def below(folder: Path) -> list[Path]:
    return [path.parent for path in folder.rglob("results.json") if path.parent.name != "known"]


def with_earlier_parts(folders: Iterable[Path]) -> list[Run]:
    """The runs in the folders and those that they go on with, each once."""
    runs: dict[Path, Run] = {}
    todo = [(folder, False) for folder in folders]
    while todo:
        folder, superseded = todo.pop()
        path = folder.absolute() / "results.json"
        if not path.is_file() or (path.parent in runs and not superseded):
            continue
        runs[path.parent] = Run(path.parent, read(path), superseded)
        if earlier := runs[path.parent].record.get("resumed_from"):
            todo.append((Path(earlier).parent.parent, True))
    return list(runs.values())


def read(path: Path) -> dict[str, Any]:
    """A run's record. Raises ValueError that names the file if it is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not the record of a run ({error})") from error
    if not isinstance(record, dict) or "started" not in record:
        raise ValueError(f"{path}: not the record of a run")
    return record
