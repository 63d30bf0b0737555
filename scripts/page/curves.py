"""Learning curves: the mean over seeds by step, and a band from the least to the largest seed."""

from collections.abc import Mapping, Sequence

from datamodules.errors import DataError
from scripts.page.blocks import Chart, Grid, Note, Part
from scripts.page.saved import Curve, curves, with_folders
from scripts.page.theme import Mark, band, figure, mark, plain, tall
from scripts.table.markdown import listed_steps
from scripts.table.speed import METRIC, speeds
from scripts.table.summary import Row, Table
from scripts.table.words import NOTHING

TRAINING = ("train/loss_step", "train/loss_epoch")  # the first that a run has


def learning(table: Table) -> Part:
    """Training loss, validation loss, and the first metric of the table that is measured on the validation."""
    found, remarks = of_rows(table.rows)
    if not any(found.values()):
        return Part("Learning curves", [Note(NONE), *map(Note, remarks)])
    metrics = [table.primary, *(metric for metric in table.metrics if metric != table.primary)]
    wanted = [
        [(name, "training loss") for name in TRAINING],
        [("val/loss", "validation loss")],
        [(f"val/{metric}", f"{metric} on the validation") for metric in metrics],
    ]
    charts = []
    for names in wanted:
        first = next((chart for name, title in names if (chart := of_column(found, name, title)) is not None), None)
        charts += [] if first is None else [first]
    return Part("Learning curves", [*charts, *speed(table), *map(Note, remarks)])


def speed(table: Table) -> list[Grid]:
    """After how many steps each setting came almost as far as the baseline does; nothing without a baseline."""
    baseline = next((row for row in table.rows if row.label == table.baseline), None)
    if baseline is None:
        return []
    try:
        bound, found = speeds(table.rows, baseline)
    except DataError:  # a damaged file, which is named already
        return []
    if bound is None:
        return []
    rows = []
    for one in found:
        never = "never" if one.steps else NOTHING
        middle = never if one.median is None else f"{one.median:g}"
        rows.append([one.label, f"{one.reached} / {len(one.steps)}", middle, listed_steps(one)])
    caption = f"Speed of learning: steps until {METRIC} is {bound:.4g} (exploratory)."
    return [Grid(caption, ["setting", "runs that came there", "median steps", "every seed"], rows)]


NONE = "No run has a metrics.csv: it is written by logger=csv and logger=many, and is not in a csv file of runs."


def of_rows(rows: Sequence[Row]) -> tuple[dict[str, dict[int, dict[str, Curve]]], list[str]]:
    """The curves by label and seed, and a sentence about each file that cannot be read."""
    found, remarks = {}, []
    for row in rows:
        seeds = {}
        for seed, folder in with_folders(row).items():
            try:
                read = curves(folder)
            except DataError as error:
                remarks.append(str(error))
                continue
            if read:
                seeds[seed] = read
        found[row.label] = seeds
    return found, remarks


def of_column(found: Mapping[str, Mapping[int, Mapping[str, Curve]]], name: str, title: str) -> Chart | None:
    """None if no run has the column."""
    traces, ends = [], []
    for place, (label, seeds) in enumerate(found.items()):
        own = {seed: read[name] for seed, read in seeds.items() if name in read}
        if own:
            traces += lines(own, mark(place), label)
            ends.append(f"{label} ends at {traces[-1]['y'][-1]:.4g}")
    if not traces:
        return None
    says = f"{title} by step, mean over seeds. " + "; ".join(ends)
    drawn = figure(traces, x="step", y=title)
    return Chart(drawn, f"{title} by step: mean and range over seeds", says, tall(drawn, 340))


def lines(seeds: Mapping[int, Curve], own: Mark, label: str, dash: str | None = None) -> list[dict]:
    """The band and the mean of some seeds, at the steps at which all of them have a value (else any of them)."""
    by_step: dict[int, list[float]] = {}
    for steps, numbers in seeds.values():
        for step, value in zip(steps, numbers, strict=True):
            by_step.setdefault(step, []).append(value)
    common = {step: numbers for step, numbers in by_step.items() if len(numbers) == len(seeds)}
    points = sorted((common or by_step).items())
    steps = [step for step, _ in points]
    mean = [sum(numbers) / len(numbers) for _, numbers in points]
    traces = []
    if len(seeds) > 1:
        low, high = ([choose(numbers) for _, numbers in points] for choose in (min, max))
        traces.append(band(steps, low, high, own.faint, label))
    seeds_of = f"{len(seeds)} seed{'' if len(seeds) == 1 else 's'}"
    line = {
        "type": "scatter",
        "x": steps,
        "y": mean,
        "mode": "lines+markers" if len(steps) < 12 else "lines",
        "line": {"color": own.colour, "dash": dash or own.dash, "width": 2},
        "marker": {"symbol": own.symbol, "size": 6},
        "name": plain(label),
        "legendgroup": label,
        "customdata": [[plain(label), seeds_of]] * len(steps),
        "hovertemplate": "%{customdata[0]}, step %{x}: %{y:.4g} (%{customdata[1]})<extra></extra>",
    }
    return [*traces, line]
