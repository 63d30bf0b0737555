"""What masks became: heat maps by layer, histograms of the first and the last layer, and how they changed in training.

Heat maps and histograms are of one run per setting, the one of the smallest seed that saved them; curves are of all.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from datamodules.errors import DataError
from scripts.page.blocks import Chart, Charts, Grid, Note, Part
from scripts.page.curves import lines, of_rows
from scripts.page.saved import Layers, layers, with_folders
from scripts.page.theme import BLUE_TO_RED, COLOURS, across, figure, mark, plain, tall
from scripts.table.summary import Row, Table

SHOWN = 6  # layers of a setting; of more, evenly spread ones, the first and the last among them
FOLLOWED = {"context_sensitivity": "context sensitivity", "sign_flips": "share of negative mask values"}
SHARE = {"title": "share of pairs", "type": "log", "tickformat": ".0e", "dtick": 1}
KEPT = (*FOLLOWED, "token_deviation", "effective_rank", "attention_below_0.01")  # statistics of results.json


def masks(table: Table) -> Part:
    blocks: list = []
    read = {row.label: of_row(row) for row in table.rows}
    for row in table.rows:
        seed, found, problem = read[row.label]
        if found is not None and any(mean is not None for mean in found.means):
            blocks += of_setting(row.label, seed, found)
        elif has_mask(row):
            blocks.append(Note(problem or f"{row.label}: no heat maps. {OLD}"))
    blocks += weights({label: found for label, (_, found, _) in read.items()})
    blocks += over_training(table)
    grid = after_training(table)
    return Part("Masks", [*blocks, *([] if grid is None else [grid])])


OLD = (
    "The numbers for them (analysis/layers.npz in the run's folder) are saved by callbacks=default; older runs, runs "
    "with callbacks=none, sharded models and runs known from a csv file do not have them."
)


def has_mask(row: Row) -> bool:
    run = next(iter(row.runs.values()), {})
    return (run.get("mask") or {}).get("scope", "none") != "none"


def of_row(row: Row) -> tuple[int, Layers | None, str]:
    """The smallest seed that saved its layers, what it saved, and a sentence about a file that cannot be read."""
    problem = ""
    for seed, folder in with_folders(row).items():
        try:
            found = layers(folder)
        except DataError as error:
            problem = problem or str(error)
            continue
        if found is not None:
            return seed, found, problem
    return 0, None, problem


def spread(number: int) -> list[int]:
    """The layers that are shown, of `number`."""
    return sorted({round(place) for place in np.linspace(0, number - 1, min(number, SHOWN))})


def of_setting(label: str, seed: int, found: Layers) -> list:
    masked = [number for number, mean in enumerate(found.means) if mean is not None]
    shown = [masked[place] for place in spread(len(masked))]
    maps = [heat_map(label, found, number) for number in shown]
    of = "" if len(shown) == len(masked) else f" {len(shown)} of {len(masked)} layers are shown."
    sides = found.sizes[masked[0]]
    between = f" Lines lie between {', '.join(found.labels)} tokens." if found.boundaries else ""
    smaller = found.means[masked[0]].shape != sides
    size = f" Means over blocks of the {sides[0]} x {sides[1]} values." if smaller else ""
    text = (
        f"{label}, seed {seed}, fusion {found.fusion}: mean over validation samples. White is {found.neutral:.3g}, the "
    )
    text += f"value that leaves plain attention; red lies above it, blue below.{between}{of}{size}"
    return [Note(text), Charts(maps), histogram(label, seed, found)]


def heat_map(label: str, found: Layers, number: int) -> Chart:
    """Queries down, keys across, in two colours that meet at the neutral value."""
    return drawn_mask(
        found.means[number], found.neutral, found.names[number], label, edges_of(found, number), found.axes
    )


def edges_of(found: Layers, number: int) -> list[tuple[float, float]]:
    """Where blocks of tokens end, as shares of queries and of keys."""
    queries, keys = found.sizes[number]
    return [(edge / queries, edge / keys) for edge in found.boundaries]


def drawn_mask(
    mask: np.ndarray, neutral: float, name: str, label: str, edges: list[tuple[float, float]], axes: tuple[str, str]
) -> Chart:
    queries, keys = mask.shape
    reach = float(np.abs(mask[np.isfinite(mask)] - neutral).max(initial=0.0)) or 1.0
    trace = {
        "type": "heatmap",
        "z": [[float(f"{value:.4g}") for value in row] for row in mask.tolist()],
        "zmin": neutral - reach,
        "zmax": neutral + reach,
        "colorbar": {"thickness": 10, "len": 1, "tickformat": ".3~g"},
        "hovertemplate": "query %{y}, key %{x}: %{z:.4g}<extra></extra>",
        "colorscale": BLUE_TO_RED,
    }
    bare = {"showgrid": False, "zeroline": False}
    down = {"title": axes[0], "autorange": "reversed", **bare}
    between = [line for low, right in edges for line in (ruled("x", right, keys), ruled("y", low, queries))]
    found = figure([trace], x={"title": axes[1], **bare}, y=down, shapes=[line for line in between if line is not None])
    low, high, mean = mask.min(), mask.max(), mask.mean()
    says = f"Mask of {label}, {name}: {queries} queries by {keys} keys, from {low:.3g} to {high:.3g}, mean {mean:.3g}; "
    says += f"plain attention is {neutral:.3g}"
    return Chart(found, f"{label}, {name}", says, height=300)


def ruled(along: str, share: float, size: int) -> dict | None:
    """A line across a heat map at the end of a block of tokens; None behind the last token."""
    if share >= 1:
        return None
    other, at = ("y" if along == "x" else "x"), share * size - 0.5
    ends = {f"{along}0": at, f"{along}1": at, f"{other}0": 0, f"{other}1": 1, f"{other}ref": f"{other} domain"}
    return {"type": "line", "line": {"color": "#222222", "width": 1}, **ends}


def histogram(label: str, seed: int, found: Layers) -> Chart:
    """The share of mask values per bin, the first masked layer against the last."""
    masked = [number for number, counts in enumerate(found.values) if counts is not None]
    traces, told = [], []
    for turn, number in enumerate(dict.fromkeys((masked[0], masked[-1]))):
        counts, edges = found.values[number]
        share = counts / max(counts.sum(), 1)
        line = {"color": COLOURS[(0, 4)[turn]], "shape": "hvh", "dash": ("solid", "dash")[turn], "width": 2}
        centres = [(low + high) / 2 for low, high in pairwise(edges.tolist())]
        step = {"type": "scatter", "mode": "lines", "x": centres, "y": [value or None for value in share.tolist()]}
        hover = "%{x:.3g}: %{y:.2%}<extra></extra>"
        traces.append({**step, "line": line, "name": plain(found.names[number]), "hovertemplate": hover})
        told.append(f"{found.names[number]} from {edges[0]:.3g} to {edges[-1]:.3g}")
    least = min(float(np.min(c[c > 0], initial=1) / max(c.sum(), 1)) for c, _ in (found.values[n] for n in masked))
    traces.append(across(found.neutral, f"plain attention ({found.neutral:.3g})", (least, 1), vertical=True))
    drawn = figure(traces, x="mask value", y=SHARE)
    says = f"Histogram of mask values of {label}, seed {seed}: {'; '.join(told)}"
    return Chart(drawn, f"{label}, seed {seed}: mask values, first layer against last", says, tall(drawn, 280))


def weights(read: Mapping[str, Layers | None]) -> list:
    """Attention weights of the first and of the last layer, a line per setting."""
    charts = []
    for which, word in ((0, "first"), (-1, "last")):
        traces = []
        for place, (label, found) in enumerate(read.items()):
            if found is None:
                continue
            counts, own = found.weights[which], mark(place)
            share = (counts / max(counts.sum(), 1)).tolist()
            line = {"color": own.colour, "dash": own.dash, "shape": "hvh", "width": 2}
            x = [(bin_ + 0.5) / len(share) for bin_ in range(len(share))]
            hover = "weight %{x:.2f}: %{y:.2%}<extra></extra>"
            step = {"type": "scatter", "mode": "lines", "x": x, "y": [value or None for value in share], "line": line}
            traces.append({**step, "name": plain(label), "hovertemplate": hover})
        if traces:
            drawn = figure(traces, x="attention weight", y=SHARE)
            says = f"Histogram of the attention weights of the {word} layer, a line per setting"
            charts.append(Chart(drawn, f"Attention weights, {word} layer", says, tall(drawn, 280)))
    return [Charts(charts)] if charts else []


def over_training(table: Table) -> list:
    """Context sensitivity and sign flips by step: the first layer solid, the last dotted, a band over seeds."""
    found, _ = of_rows(table.rows)
    charts = []
    for statistic, title in FOLLOWED.items():
        traces = []
        for place, (label, seeds) in enumerate(found.items()):
            names = [name for read in seeds.values() for name in read if is_of(name, statistic)]
            ordered = sorted(dict.fromkeys(names), key=natural)
            for name, dash in zip(dict.fromkeys(ordered[:1] + ordered[-1:]), ("solid", "dot"), strict=False):
                own = {seed: read[name] for seed, read in seeds.items() if name in read}
                layer = name.removeprefix("masks/").removesuffix(f"/{statistic}")
                traces += lines(own, mark(place), f"{label}, {layer}", dash)
        if traces:
            says = f"{title} of the first and the last layer by step, mean and range over seeds"
            drawn = figure(traces, x="step", y={"title": title, "rangemode": "tozero"})
            charts.append(Chart(drawn, f"{title} over training".capitalize(), says, tall(drawn, 320)))
    if charts or not any(map(has_mask, table.rows)):
        return charts
    return [Note("How masks changed over training is not shown: no metrics.csv has their columns (masks/...), which "
                 "callbacks=default logs at every validation since the report exists.")]  # fmt: skip


def is_of(name: str, statistic: str) -> bool:
    return name.startswith("masks/") and name.endswith(f"/{statistic}")


def natural(name: str) -> list:
    """Sorts "layer 10" after "layer 2"."""
    return [(int(word), "") if word.isdigit() else (-1, word) for word in name.replace("/", " ").split()]


def after_training(table: Table) -> Grid | None:
    """The statistics of the trained masks, mean over seeds, from results.json; None if no run has any."""
    rows = []
    for row in table.rows:
        found: dict[tuple[str, str], list[float]] = {}
        for run in row.runs.values():
            for name, value in (run.get("analysis") or {}).items():
                layer, _, statistic = name.rpartition("/")
                if value is not None:
                    found.setdefault((layer, statistic), []).append(value)
        for layer in sorted({layer for layer, _ in found}, key=natural):
            cells = [found.get((layer, statistic)) for statistic in KEPT]
            rows.append([row.label, layer, *("-" if cell is None else f"{np.mean(cell):.3g}" for cell in cells)])
    header = ["setting", "layer", *(name.replace("_", " ") for name in KEPT)]
    return Grid("Masks and attention after training, mean over seeds.", header, rows, wide=2) if rows else None
