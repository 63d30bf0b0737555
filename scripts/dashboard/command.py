"""The command line of `python -m scripts.dashboard`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.extras import installed
from scripts.arguments import parser_for
from scripts.dashboard.check import NotReadable, missing, nodes
from scripts.dashboard.content import Content, content
from scripts.sweep_runs import LOGS, found, label
from tasks.common.files import write_text
from tasks.common.loggers import logged_in

BANDS = ("minmax", "stddev", "stderr")


def main(arguments: Sequence[str] | None = None, description: str | None = None) -> int:
    """Returns 1 for what cannot be shown, is not logged, or was not saved."""
    given = parsed(arguments, description)
    try:
        made = content(label(given.sweep), found(given.sweep, given.logs), given.scale)
    except ValueError as error:
        return told(error)
    if not installed("wandb_workspaces"):
        return told("wandb-workspaces is not installed: pip install -e '.[lab,dashboard]'")
    from scripts.dashboard.views import as_json, report, workspace  # W&B's library takes seconds to import

    settings = {"project": given.project, "band": given.band}
    views = {"workspace": as_json(workspace(made, **settings)), "report": as_json(report(made, **settings))}
    if given.dry_run:
        write(views, given.out)
    status = check(views, made)
    return push(made, given) if given.push and status == 0 else status


def parsed(arguments: Sequence[str] | None, description: str | None) -> argparse.Namespace:
    parser = parser_for("dashboard", description)
    parser.add_argument("sweep", help="a sweep of configs/sweep/, the folder of a multirun, or any folder with runs")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--dry-run", action="store_true", help="print the JSON of both, and check their keys")
    what.add_argument("--push", action="store_true", help="save both at W&B")
    parser.add_argument("--scale", help="which runs, if the sweep ran at several scales")
    parser.add_argument("--band", choices=BANDS, default="minmax", help="around the mean over seeds (default: minmax)")
    parser.add_argument(
        "--project", default="lcaam", help="of W&B (default: lcaam, as configs/logger/wandb.yaml has it)"
    )
    parser.add_argument("--entity", default="", help="user or team; default for --push: your own")
    parser.add_argument("--out", type=Path, help="write the JSON to this file instead")
    parser.add_argument("--logs", type=Path, default=LOGS, help="where the multiruns of a sweep lie")
    return parser.parse_args(arguments)


def told(problem: object) -> int:
    print(problem, file=sys.stderr)
    return 1


def write(views: dict[str, Any], path: Path | None) -> None:
    text = json.dumps(views, indent=1, ensure_ascii=False) + "\n"
    if path is None:
        print(text, end="")
    else:
        write_text(path, text)


def check(views: dict[str, Any], made: Content) -> int:
    """Says how many panels there are and which of their keys no run has logged; 1 if there is such a key."""
    panels = sum("viewType" in node for node in nodes(views))
    size = f"{panels} panels, {len(made.groups)} groups"
    try:
        number, lacking = missing(views, made.runs)
    except NotReadable as error:
        print(f"{size}; their keys were not compared with a run: {error}", file=sys.stderr)
        return 0
    for kind, name in lacking:
        print(f"{kind} {name}: no run has logged it", file=sys.stderr)
    print(f"{size}, {number} keys, {len(lacking)} of them not logged by the runs", file=sys.stderr)
    return 1 if lacking else 0


def push(made: Content, given: argparse.Namespace) -> int:
    """Saves workspace and report at W&B and prints where they are."""
    if not logged_in():
        return told("--push needs a key of W&B: `wandb login` first, or WANDB_API_KEY")
    import wandb

    from scripts.dashboard.views import report, workspace

    what = "W&B"
    try:
        settings = {"project": given.project, "band": given.band, "entity": given.entity or wandb.Api().default_entity}
        for what, make in (("workspace", workspace), ("report", report)):
            print(f"{what}: {make(made, **settings).save().url}")
    except (wandb.errors.Error, OSError, ValueError) as error:  # ValueError: there is no such project yet
        reason = " ".join(str(error).split())
        return told(f"{what}: not saved: {reason} (`python -m scripts.sync_wandb {given.sweep}` uploads the runs)")
    return 0
