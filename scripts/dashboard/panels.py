"""The panels of a dashboard by section, from what the runs have.

Where W&B's library cannot say what we want: a line plot has no reference line at a floor, so floors, ceiling and the
paper's figures are bars beside the test's; a panel has no filter of its own, so a sweep over several tasks has sections
for each, whose panels stay empty for the other tasks' runs.
"""

import wandb_workspaces.reports.v2 as wr

from scripts.dashboard.content import Content, TaskContent
from tasks.common.wandb_names import wandb_name
from tasks.common.wandb_runs import STEP

GROUP = "Group"  # what W&B's library calls a run's group, which names the setting
COSTS = {
    "parameters": ["parameters/total"],
    "parameters of masks and controls": ["parameters/masks", "parameters/controls"],
    "FLOPs of one forward pass": ["cost/flops"],
    "seconds of training, and in all": ["seconds/fit", "seconds/total"],
    "peak memory in bytes": ["peak_memory/process"],
}
Sections = dict[str, list]


def sections(content: Content, band: str) -> Sections:
    """Panels by the section's name. band: what is shaded around the mean over a setting's seeds."""
    found: Sections = {"Runs": [wr.MarkdownPanel(markdown=about(content)), wr.RunComparer(diff_only=True)]}
    for task in content.tasks:
        for name, panels in of_task(task, band).items():
            if panels:
                found[f"{task.name.replace('_', ' ')}: {name}" if len(content.tasks) > 1 else name] = panels
    found["Cost"] = [bars(title, metrics, band) for title, metrics in COSTS.items()]
    return found


def of_task(task: TaskContent, band: str) -> Sections:
    validation = [name for name in task.curves if name.startswith("val/")]
    training = [name for name in task.curves if name.startswith("train/")]
    return {
        "Test": [bars(metric, beside(metric, task), band) for metric in task.scores],
        "Validation": [curve(name, band) for name in first_scores(validation, task)],
        "Training": [curve(name, band) for name in training],
        "Masks": [*pictures(task), *statistics(task, band)],
    }


def beside(metric: str, task: TaskContent) -> list[str]:
    """The test's metric, then the floors, the ceiling and the paper's figure that the runs have for it."""
    return [wandb_name(f"{source}/{metric}") for source in ("test", *task.references.get(metric, ()))]


def first_scores(curves: list[str], task: TaskContent) -> list[str]:
    """The loss, then the test's metrics in their order, then the others, such as terms of the loss."""
    order = ["val/loss", *(f"val/{name}" for name in task.scores)]
    return sorted(curves, key=lambda name: order.index(name) if name in order else len(order))


def curve(name: str, band: str) -> wr.LinePlot:
    return wr.LinePlot(
        title=name,
        x=STEP,
        y=[wandb_name(name)],
        title_x="updates",
        groupby=GROUP,
        groupby_aggfunc="mean",
        groupby_rangefunc=band,
        smoothing_type="none",
    )


def bars(title: str, metrics: list[str], band: str) -> wr.BarPlot:
    """A bar per setting and metric, the mean over seeds."""
    return wr.BarPlot(
        title=title, metrics=metrics, groupby=GROUP, groupby_aggfunc="mean", groupby_rangefunc=band, orientation="h"
    )


def pictures(task: TaskContent) -> list[wr.MediaBrowser]:
    """The masks of all layers in one panel, a column per layer; histograms in another."""
    masks = [name for name in task.figures if name.startswith("figures/mask_")]
    others = [name for name in task.figures if name not in masks]
    groups = {"masks": masks, "attention": others}
    return [wr.MediaBrowser(title=title, media_keys=keys) for title, keys in groups.items() if keys]


def statistics(task: TaskContent, band: str) -> list[wr.BarPlot]:
    """Context sensitivity, sign flips, ...: a bar per setting and layer."""
    return [
        bars(kind.replace("_", " "), [wandb_name(f"analysis/{layer}/{kind}") for layer in layers], band)
        for kind, layers in task.analysis.items()
    ]


def about(content: Content) -> str:
    """What the runs are, for the first panel and the report."""
    lines = [
        f"**{content.name}**, scale {content.scale}: {len(content.groups)} settings, "
        f"seeds {', '.join(map(str, content.seeds))}; commits {', '.join(content.commits)}.",
        "",
        "A group is a setting: experiment, scale, what differs from the experiment, and a hash of all settings but the "
        "seed. Bars are means over seeds; `floors/` are answers that read no input, ceilings included, and `paper/` "
        "the published figure, which is there for the paper's own data set only. Differences, intervals and tests: "
        "`python -m scripts.table`.",
    ]
    return "\n".join(lines)
