"""What each setting costs, and the origin of every number."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from scripts.page.blocks import Facts, Grid, Part
from scripts.table.summary import Row, Table

UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def cost(table: Table) -> Part:
    """Parameters, FLOPs, seconds and memory, medians over seeds."""
    header = ["setting", "parameters", "of masks", "of controls", "FLOPs of one sample", "seconds of training",
              "seconds in all", "peak memory"]  # fmt: skip
    rows = [
        [
            row.label,
            middle(row, lambda run: sum(run["parameters"].values()) or None, "{:,.0f}".format),
            middle(row, lambda run: run["parameters"].get("masks"), "{:,.0f}".format),
            middle(row, lambda run: run["parameters"].get("controls"), "{:,.0f}".format),
            middle(row, lambda run: run["flops"], scaled),
            middle(row, lambda run: run["seconds"]["fit"], "{:,.1f}".format),
            middle(row, lambda run: run["seconds"]["total"], "{:,.1f}".format),
            middle(row, memory, lambda size: f"{scaled(size)}B"),
        ]
        for row in table.rows
    ]
    caption = "Cost: medians over seeds. Peak memory is the device's if there is one, else the process's."
    return Part("Cost", [Grid(caption, header, rows)])


def middle(row: Row, value: Callable[[dict[str, Any]], float | None], shown: Callable[[float], str]) -> str:
    """The median over the runs that have the value; `-` if none has."""
    found = []
    for run in row.runs.values():
        try:
            one = value(run)
        except (KeyError, TypeError, AttributeError):  # a run from a csv file has few of them
            continue
        if one is not None:
            found.append(float(one))
    return shown(median(found)) if found else "-"


def memory(run: dict[str, Any]) -> float | None:
    kinds = run["peak_memory"]
    return next((kinds[name] for name in (*(name for name in kinds if name != "process"), "process")), None)


def scaled(size: float) -> str:
    """`13.05 M`"""
    unit, letter = next(((unit, letter) for unit, letter in UNITS if size >= unit), (1.0, ""))
    return f"{size / unit:.3g} {letter}"


def provenance(table: Table) -> Part:
    """A row per run, and what all runs share."""
    header = ["setting", "seed", "folder", "commit", "started", "tested weights", "identity", "W&B run", "command"]
    rows = [
        [
            row.label,
            str(seed),
            place(run),
            commit(run),
            str(run.get("started") or "-"),
            str(run.get("tested") or "-"),
            str(run.get("identity") or "-"),
            str(run.get("wandb") or "-"),
            str(run.get("command") or "-"),
        ]
        for row in table.rows
        for seed, run in sorted(row.runs.items())
    ]
    facts = [("command", table.command), ("states of the code", ", ".join(table.commits) or "-")]
    for number, versions in enumerate(table.versions, 1):
        name = "versions" if len(table.versions) == 1 else f"versions, set {number} of {len(table.versions)}"
        facts.append((name, ", ".join(f"{key} {value}" for key, value in versions.items()) or "-"))
    facts += [(f"setting {row.settings}", f"{row.label}: {' '.join(row.overrides) or '-'}") for row in table.rows]
    grid = Grid("Every run behind the numbers of this section.", header, rows, words=True)
    return Part("Provenance", [Facts(facts), grid])


def place(run: dict[str, Any]) -> str:
    """The run's folder, from here if it is below; the csv file of a run that is known from one."""
    folder = run.get("folder")
    if folder is None:
        return f"{run.get('source') or 'a csv file'} (csv)"
    path = Path(folder).absolute()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def commit(run: dict[str, Any]) -> str:
    git = run.get("git") or {}
    return (git.get("commit") or "unknown")[:7] + (" with changes" if git.get("dirty") else "")
