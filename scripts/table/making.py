"""From the name of a sweep to its tables, one per task: rows, runs, contrasts, floors and remarks.

tables, expected = made("table1a", "mini", ["seed=0,1"], command="python -m scripts.table table1a --scale mini")
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from configs.errors import ConfigError, listed, nearest
from configs.sweeping import SEED, sweeper_of
from datamodules.evaluated import in_words
from scripts.table.again import check_names, with_again
from scripts.table.contrasts import baseline_of, baselines, compared, named, registered
from scripts.table.data_sets import over_data_sets
from scripts.table.expected import Expected, expected_rows, key_of
from scripts.table.lookup import Files, files_of, filled
from scripts.table.rungs import explanations
from scripts.table.summary import Row, Table
from tasks.common.cells import commit_of, commits_line
from tasks.common.directions import higher_is_better
from tasks.common.published import own_data

LOSSES = ("test_loss", "train_loss")


def made(name: str, scale: str, overrides: Sequence[str], command: str) -> tuple[list[Table], Path]:
    """The tables of a sweep, with the runs that are there, and the folder of all logs.

    Raises ConfigError for settings or labels that make no sense, RowsError and DataError for files that are damaged.
    """
    expected = expected_rows(name, [f"scale={scale}", *overrides])
    return tables_of(name, expected, overrides, command), Path(expected[0].cfg.paths.log_dir)


def tables_of(name: str, expected: Sequence[Expected], overrides: Sequence[str], command: str) -> list[Table]:
    """A table per task of the rows."""
    files = files_of(expected[0].cfg)
    sweeper = sweeper_of(name)
    varied = {key for node in (sweeper["params"], *sweeper["also"]) for key in node} - {SEED}
    whole = not any(key_of(word) in varied for word in overrides)
    by_task: dict[str, list[Expected]] = {}
    for one in expected:
        by_task.setdefault(one.task, []).append(one)
    return [table_of(name, task, rows, files, whole, command) for task, rows in by_task.items()]


def table_of(name: str, task: str, expected: list[Expected], files: Files, whole: bool, command: str) -> Table:
    """The table of the rows that are of one task. whole: these are all rows that the sweep's YAML has for it."""
    cfg = expected[0].cfg
    node = OmegaConf.to_container(cfg.table, resolve=True)
    check_labels(expected)
    check_names(node["interventions"])
    trained = [filled(one, files) for one in expected]
    rows = with_again(trained, node["interventions"])
    primary = node["primary"] or (cfg.primary or {}).get("metric")
    if primary is None:
        raise ConfigError(
            f"sweep={name}: no primary metric; set table.primary, or `primary:` in configs/task/{task}.yaml"
        )
    margin = node["margin"]
    if margin is None and cfg.primary is not None and cfg.primary.metric == primary:
        margin = cfg.primary.margin
    there = list(dict.fromkeys(metric for row in rows for run in row.runs.values() for metric in run["metrics"]))
    hidden = LOSSES[1:] if higher_is_better(primary) else LOSSES  # a decoded metric has the loss of the test beside it
    metrics = node["metrics"] or [metric for metric in there if metric not in hidden]
    remarks: list[str] = []
    shown = [without_java(metric, there, remarks) for metric in dict.fromkeys((primary, *metrics))]
    for metric in shown:
        if there and metric not in there:
            remarks.append(f"no run has the metric {metric}{nearest(metric, there)} (metrics: {listed(there)})")
    table = Table(
        name=name,
        question=node["question"],
        scale=cfg.scale_name,
        task=task,
        metrics=list(dict.fromkeys(shown)),
        primary=shown[0],
        higher_is_better=higher_is_better(shown[0]),
        baseline=node["baseline"],
        rows=rows,
        contrasts=[],
        floors=floors_of(trained, remarks),
        figure=node["figure"],
        command=command,
        commits=[],
        versions=[],
        remarks=remarks,
        failed_below=node["failed_below"].get(cfg.scale_name),
    )
    candidates = baselines(rows, node["baseline"])
    if not candidates:
        named(rows, node["baseline"], "table.baseline")
    table.baseline = baseline_of(rows[0], candidates).label
    for one, row in zip(expected, trained, strict=True):
        row.published = published_of(one, node["published"].get(row.label))
    table.contrasts = compared(table, candidates, registered(table, candidates, node["contrasts"], whole), margin)
    table.explanations = explanations(table, candidates, margin)
    if node["data_sets"] is not None:
        table.over_data_sets = over_data_sets(rows, node["data_sets"], candidates, table.primary)
    states(table)
    return table


def check_labels(expected: Sequence[Expected]) -> None:
    """ConfigError for two rows with one label: `table.labels` can tell them apart."""
    labels = [one.label for one in expected]
    for label in labels:
        if labels.count(label) > 1:
            rows = " and ".join(" ".join(one.overrides) for one in expected if one.label == label)
            raise ConfigError(f"two rows are called {label!r}: {rows}; give them words of their own in table.labels")


def without_java(metric: str, there: Sequence[str], remarks: list[str]) -> str:
    """The metric, or its form on plain tokens, which is its name without Java."""
    plain = f"{metric}_plain"
    if metric in there or plain not in there:
        return metric
    remarks.append(f"{plain} stands for {metric}, which needs Java")
    return plain


def floors_of(rows: Iterable[Row], remarks: list[str]) -> dict[str, dict[str, float]]:
    """By kind, of the first run that has it: they belong to the data. A remark if another run has others."""
    found: dict[str, dict[str, float]] = {}
    differing = set()
    for row in rows:
        for run in row.runs.values():
            for kind, scores in run["floors"].items():
                if found.setdefault(kind, scores) != scores:
                    differing.add(kind)
    if differing:
        remarks.append(f"runs have several floors of the kind {listed(sorted(differing))}; the first run's are shown")
    return found


def published_of(one: Expected, of_table: dict[str, str] | None) -> dict[str, str]:
    """The paper's figures of a row: the table's own, else those of the experiment if the row is nothing but it."""
    if not one.as_shipped or not own_data(one.cfg):
        return {}
    if of_table is not None:
        return dict(of_table)
    return dict(one.cfg.paper) if all(key_of(word) == "experiment" for word in one.overrides) else {}


def test_sets(runs: Iterable[dict[str, Any]]) -> str:
    """What the runs were tested on, if that is not the same for all that say so: a score of another set is another
    score. Empty if all is well."""
    count: dict[str, int] = {}
    for run in runs:
        if about := run.get("evaluation"):
            left_out = about["left_out"].get("test")
            words = f"{about['tested']:,} {about['unit']}"
            words += f" of the split {about['split']}" if about["split"] else ""
            words += f" without {in_words(left_out)}" if left_out else ""
            count[words] = count.get(words, 0) + 1
    if len(count) < 2:
        return ""
    sets = "; ".join(f"{words} ({number} run{'s' if number > 1 else ''})" for words, number in count.items())
    return f"runs were tested on {len(count)} different sets, whose scores cannot be compared: {sets}"


def states(table: Table) -> None:
    """Notes the states of the code and the versions of packages, with a remark if there are several of either, or of
    test sets."""
    runs = [run for row in table.rows if row.of is None for run in row.runs.values()]
    counted: dict[str, int] = {}
    for run in runs:
        counted[commit_of(run)] = counted.get(commit_of(run), 0) + 1
    table.commits = sorted(counted, key=lambda commit: -counted[commit])
    if line := commits_line(runs):
        table.remarks.insert(0, line)
    known: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run.get("versions"):
            known.setdefault(json.dumps(run["versions"], sort_keys=True), run["versions"])
    table.versions = list(known.values())
    if len(table.versions) > 1:
        names = dict.fromkeys(name for one in table.versions for name in one)
        apart = [name for name in names if len({str(one.get(name)) for one in table.versions}) > 1]
        which = "; ".join(
            f"{name} {', '.join(dict.fromkeys(str(one.get(name)) for one in table.versions))}" for name in apart
        )
        table.remarks.insert(0, f"runs with {len(table.versions)} sets of package versions: {which}")
    if line := test_sets(runs):
        table.remarks.insert(0, line)
