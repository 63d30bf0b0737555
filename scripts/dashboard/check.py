"""Whether every key that a dashboard names is one that an offline run of the sweep has logged.

A key is ("metric", "val/loss"), ("config", "mask.depth") or ("run", "group").
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from scripts.sweep_runs import Run

INSPECT = (sys.executable, "-m", "wandb", "leet", "inspect", "--json")  # W&B's own reader; came with 0.31
ATTRIBUTES = {"run_group": "group", "display_name": "displayName", "job_type": "jobType", "tags": "tags"}
ALWAYS = {("run", name) for name in ("createdAt", "displayName", "name", "state")}  # the server gives every run these
Key = tuple[str, str]


class NotReadable(Exception):
    """No offline run can be read; the message says why."""


def named(view: Any) -> set[Key]:
    """The keys in the JSON of a workspace or report."""
    found: set[Key] = set()
    for node in nodes(view):
        if "viewType" in node:
            found |= set(of_panel(node["config"]))
        if "runFeed" in node:
            found |= set(of_runs(node))
    return found - ALWAYS


def nodes(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping of a tree."""
    if isinstance(value, Mapping):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from nodes(item)


def of_panel(config: Mapping[str, Any]) -> Iterator[Key]:
    metrics = [*config.get("metrics", ()), *config.get("mediaKeys", ())]
    for name in (*metrics, *filter(None, [config.get("xAxis")])):
        if name.startswith("config."):
            yield "config", without_value(name.removeprefix("config."))
        else:
            yield "metric", name.removeprefix("summary_metrics.")
    if group := config.get("groupBy"):
        yield ("config", without_value(group)) if "value" in group.split(".") else ("run", group)


def of_runs(node: Mapping[str, Any]) -> Iterator[Key]:
    """Keys of a set of runs: filters, groups, order, and pinned columns."""
    keys = [*(item["key"] for item in nodes(node["filters"]) if "key" in item), *node["grouping"]]
    keys += [item["key"] for item in node["sort"]["keys"]]
    columns = [column.partition(":") for column in node["runFeed"]["columnOrder"]]
    for section, name in (*((key["section"], key["name"]) for key in keys), *((a, b) for a, _, b in columns)):
        if section == "config":
            yield "config", without_value(name)
        else:
            yield ("run" if section == "run" else "metric"), name


def without_value(name: str) -> str:
    """`mask.value.depth` -> `mask.depth`: the server puts every first key's settings below "value"."""
    first, *rest = [part for part in name.split(".") if part != "value"]
    return ".".join((first, *rest))


def logged(runs: Sequence[Run]) -> set[Key]:
    """The keys that one run of each group has in its offline files. Raises NotReadable."""
    chosen: dict[str, Run] = {}
    for run in runs:
        if run.record["status"] == "completed" or run.record["group"] not in chosen:
            chosen[run.record["group"]] = run
    ids = {run.record["wandb"] for run in chosen.values()}
    parts = [part for run in runs for id in ids for part in run.folder.glob(f"wandb/offline-run-*-{id}")]
    if not parts:
        raise NotReadable("the runs have no offline files of W&B")
    return {key for part in parts for key in of_file(part)}


@cache
def of_file(part: Path) -> frozenset[Key]:
    """The keys of one offline run's file. Raises NotReadable: this wandb cannot read it."""
    silent = {**os.environ, "WANDB_ERROR_REPORTING": "false"}  # otherwise it reports its own use to W&B's server
    done = subprocess.run([*INSPECT, str(part)], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=silent)
    if done.returncode:
        reason = "this wandb has no `leet inspect --json`, which came with 0.31" if "No such" in done.stderr else ""
        raise NotReadable(f"{part}: {reason or done.stderr.strip().splitlines()[-1]}")
    found: set[Key] = set()
    for line in done.stdout.splitlines():
        record = json.loads(line)
        for kind in ("history", "summary", "config"):
            content = record.get(kind) or {}
            tree = content.get("item") or content.get("update") or {}
            found |= {("config" if kind == "config" else "metric", path) for path in paths(tree)}
        found |= {("run", name) for key, name in ATTRIBUTES.items() if (record.get("run") or {}).get(key)}
    return frozenset(found)


def paths(tree: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """`{"val/loss": {"min": 1}}` -> `val/loss`, `val/loss.min`; a key `a.b` stands for a in which there is b."""
    for name, value in tree.items():
        parts = f"{before}{name}".split(".")
        yield from (".".join(parts[: i + 1]) for i in range(len(parts)))
        if isinstance(value, Mapping):
            yield from paths(value, f"{before}{name}.")


def missing(view: Any, runs: Sequence[Run]) -> tuple[int, list[Key]]:
    """How many keys a view names, and those that no offline run has logged. Raises NotReadable."""
    keys, there = named(view), logged(runs)
    return len(keys), sorted(keys - there)
