"""What a dashboard can show of a sweep, read from the runs' own files: it needs neither an account nor W&B's files."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.sweep_runs import Run
from tasks.common.wandb_names import wandb_name

UNFIT = "=<>"  # in a filter's text the library replaces them, also inside quotes
TEST = ("test_loss", "train_loss")  # metrics of the record that are not scores


@dataclass
class TaskContent:
    """What a dashboard shows of one task, by the names of the run's files, in the order of the closing table.

    metrics: the test's. curves: what was logged while training and validating ("val/loss"). figures: pictures, by
    W&B's names. references: what stands beside a metric ("floors/constant", "paper"), by metric. analysis: statistics
    of masks and attention, their layers by kind.
    """

    name: str
    metrics: list[str] = field(default_factory=list)
    curves: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    references: dict[str, list[str]] = field(default_factory=dict)
    analysis: dict[str, list[str]] = field(default_factory=dict)

    @property
    def scores(self) -> list[str]:
        return [name for name in self.metrics if name not in TEST]


@dataclass
class Content:
    """The content of a sweep at one scale. groups: the runs' groups at W&B. runs: those that W&B has or will get."""

    name: str
    scale: str
    groups: list[str]
    tasks: list[TaskContent]
    runs: list[Run]
    seeds: list[int]
    commits: list[str]


def content(name: str, runs: Sequence[Run], scale: str | None = None) -> Content:
    """What the runs of a sweep have. Raises ValueError: no run with W&B, or several scales of which none is named."""
    logged = [run for run in runs if run.record.get("wandb") and run.record.get("group")]
    if not logged:
        raise ValueError(f"{name}: {len(runs)} runs, none logged to W&B with a group (logger=many does)")
    scales = list(dict.fromkeys(run.record["scale"] for run in logged))
    if scale is None and len(scales) > 1:
        raise ValueError(f"{name}: runs of several scales; choose one with --scale: {', '.join(scales)}")
    scale = scale or scales[0]
    if scale not in scales:
        raise ValueError(f"{name}: no run at scale {scale}; there are {', '.join(scales)}")
    logged = [run for run in logged if run.record["scale"] == scale]
    tasks: dict[str, TaskContent] = {}
    for run in logged:
        task = task_of(run)
        add(tasks.setdefault(task, TaskContent(task)), run)
    groups = list(dict.fromkeys(run.record["group"] for run in logged))
    if bad := [(group, sign) for group in groups for sign in UNFIT if sign in group]:
        raise ValueError("group {!r}: W&B's library cannot filter by a name with {!r}; set another".format(*bad[0]))
    seeds = sorted({run.record["seed"] for run in logged})
    commits = list(dict.fromkeys((run.record["git"]["commit"] or "unknown")[:7] for run in logged))
    return Content(name, scale, groups, list(tasks.values()), logged, seeds, commits)


def task_of(run: Run) -> str:
    """The folder of the task's class: `audio_description`."""
    module = run.record["task"]["_target_"].rpartition(".")[0]
    return module.removeprefix("tasks.").partition(".")[0]


def add(task: TaskContent, run: Run) -> None:
    """Adds what a run has and the others had not."""
    record = run.record
    extend(task.metrics, record["metrics"])
    extend(task.curves, columns(run.folder / "metrics.csv"))
    extend(task.figures, pictures(run.folder / "figures"))
    sources = {f"floors/{kind}": scores for kind, scores in record["floors"].items()} | {"paper": record["paper"]}
    for source, scores in sources.items():
        for metric, value in scores.items():
            if value is not None:
                extend(task.references.setdefault(metric, []), [source])
    for statistic in record["analysis"]:
        layer, _, kind = statistic.rpartition("/")
        extend(task.analysis.setdefault(kind, []), [layer])


def extend(names: list[str], more: Iterable[str]) -> None:
    names += [name for name in more if name not in names]


def columns(path: Path) -> list[str]:
    """The curves of a metrics.csv, without what the test logged; none if the run wrote no such file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        names = next(csv.reader(file), [])
    return [name for name in names if name.startswith(("val/", "train/"))]


def pictures(folder: Path) -> list[str]:
    """The keys under which W&B got the pictures of a run's end; files of epochs in between have the same keys."""
    return [wandb_name(f"figures/{path.stem}") for path in sorted(folder.glob("*.png")) if "_epoch" not in path.stem]
