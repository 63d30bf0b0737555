"""A probe's figure: score and steps to the threshold over the knob, with bands over seeds, one column per fusion."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scripts.page.theme import COLOURS
from scripts.studies.probes.masks import ROWS, Row
from scripts.studies.probes.probes import Probe
from scripts.studies.probes.results import Results

MARKERS = "osD^vPX*h"
RELATIVES = ("entmax", "causal", "cope")  # in the tables alone: the figure is about the ladder
RUNGS = [rung for rung in dict.fromkeys(row.rung for row in ROWS) if rung not in RELATIVES]


def figure(results: Results, probe: Probe) -> Figure:
    """Bands are mean ± standard deviation over seeds."""
    made = Figure(figsize=(11, 6.2), layout="constrained")
    panels = made.subplots(2, 2, sharex=True, sharey="row")
    labels = [value.label for value in probe.values]
    for column, fusion in enumerate(("add", "mul")):
        rows = [row for row in ROWS if row.fusion in ("", fusion) and row.rung not in RELATIVES]
        for row in rows:
            draw(panels[0, column], labels, *scores(results, probe, row), row.rung)
            draw(panels[1, column], labels, *steps(results, probe, row), row.rung)
        panels[0, column].set_title(fusion, fontsize=10)
        panels[1, column].set_xlabel(probe.knob)
    panels[0, 0].set_ylabel("% right")
    panels[1, 0].set_ylabel(f"steps to {probe.threshold:g} %")
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xticks(range(len(labels)), labels, fontsize=8, rotation=30 if max(map(len, labels)) > 8 else 0)
    lines = {line.get_label(): line for axes in panels[0] for line in axes.lines}
    made.legend([lines[rung] for rung in RUNGS if rung in lines], [rung for rung in RUNGS if rung in lines],
                loc="outside right upper", fontsize=8, frameon=False)  # fmt: skip
    made.suptitle(probe.title, fontsize=11)
    return made


def scores(results: Results, probe: Probe, row: Row) -> tuple[list[float], list[float]]:
    return spreads([list(results.scores(probe, value.label, row.name).values()) for value in probe.values])


def steps(results: Results, probe: Probe, row: Row) -> tuple[list[float], list[float]]:
    """A run that did not come to the threshold counts with all its steps."""
    found = []
    for value in probe.values:
        runs = results.runs(probe, value.label, row)
        found.append([float(run.steps_to_threshold or run.steps) for run in runs])
    return spreads(found)


def spreads(values: list[list[float]]) -> tuple[list[float], list[float]]:
    """Means and deviations; nan without values."""
    means = [float(np.mean(some)) if some else np.nan for some in values]
    return means, [float(np.std(some, ddof=1)) if len(some) > 1 else 0.0 for some in values]


def draw(axes: Axes, labels: list[str], means: list[float], deviations: list[float], label: str) -> None:
    if np.isnan(means).all():
        return
    number = RUNGS.index(label)
    at, colour = np.arange(len(labels)), COLOURS[number % len(COLOURS)]
    mean, deviation = np.array(means), np.array(deviations)
    dash = "-" if number < len(COLOURS) else "--"
    axes.plot(at, mean, dash, color=colour, marker=MARKERS[number], markersize=4, linewidth=1.2, label=label)
    axes.fill_between(at, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0)


def write(results: Results, probe: Probe, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{probe.name}.png"
    figure(results, probe).savefig(path, dpi=80)
    return path
