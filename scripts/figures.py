"""The pictures of docs/masks.md.

python -m scripts.figures                                what needs no run: fusions.png, depth.png
python -m scripts.figures --runs logs                    also sign_flips.png, from the results.json of trained runs

`python -m scripts.page` draws all that runs leave behind.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lcaam import ContextAwareMask, Fusion
from lcaam.analysis import token_deviation
from scripts.arguments import parser_for
from scripts.report import groups, load, names

ROOT = Path(__file__).resolve().parents[1]
MASK_VALUES = (-1.0, 0.0, 0.5, 1.0, 2.0)


def fusions() -> Figure:
    """The fused score over the score."""
    figure = Figure(figsize=(11, 2.9), layout="constrained")
    score = torch.linspace(-3, 3, 61)
    shown = [fusion for fusion in Fusion if not fusion.ignores_mask]
    for axes, fusion in zip(figure.subplots(1, len(shown), sharey=True), shown, strict=True):
        axes.plot(score, score, color="0.75", linewidth=4, label="no mask")
        for value, colour in zip(MASK_VALUES, plasma(len(MASK_VALUES)), strict=True):
            axes.plot(score, fusion(score, torch.full_like(score, value)), color=colour, label=f"m = {value:g}")
        finish(axes, fusion.value, "score s", "fused score")
    axes.legend(fontsize=7)
    return figure


def depth() -> Figure:
    """How much the mask differs between tokens, by depth and initialisation."""
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.subplots()
    depths = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
    tokens = torch.randn(4, 75, 256, generator=torch.Generator().manual_seed(0))
    for init, residual in (("default", False), ("default", True), ("xavier", False), ("kaiming", False)):
        found = []
        for layers in depths:
            torch.manual_seed(0)
            net = ContextAwareMask(256, 75, depth=layers, init=init, residual=residual)
            with torch.no_grad():
                found.append(token_deviation(net(tokens).dense()))
        axes.plot(depths, found, marker="o", markersize=3, label=init + (" + residual" if residual else ""))
    axes.set_yscale("log")
    finish(axes, "A mask at initialisation, D = 256", "linear layers", "deviation between tokens")
    axes.legend(fontsize=8)
    return figure


def after_training(runs: list[dict]) -> Figure:
    """Sign flips and context sensitivity by layer: a point per seed, a bar for the mean, a colour per setting."""
    found = groups(runs)
    labels = names(found)
    figure = Figure(figsize=(7.4, 3.0 + 0.2 * len(labels)), layout="constrained")
    fields = {"sign_flips": "share of pairs with m < 0", "context_sensitivity": "variance over scenes / total"}
    layers = list(dict.fromkeys(layer for group in found for run in group.values() for layer in layers_of(run)))
    width = 0.8 / len(labels)
    for axes, (field, label) in zip(figure.subplots(1, 2), fields.items(), strict=True):
        drawn = []
        for place, (setting, group) in enumerate(zip(labels, found, strict=True)):
            for i, layer in enumerate(layers):
                x = i + (place - (len(labels) - 1) / 2) * width
                values = [v for run in group.values() if (v := run["analysis"].get(f"{layer}/{field}")) is not None]
                if values:
                    axes.bar(x, np.mean(values), 0.85 * width, color=f"C{place}", alpha=0.4)
                    axes.plot([x] * len(values), values, ".", color=f"C{place}")
                    drawn += values
            axes.plot([], [], "s", color=f"C{place}", label=setting)
        axes.set_xticks(range(len(layers)), layers)
        axes.set_ylim(bottom=0, top=None if any(drawn) else 1)
        if not any(drawn):
            axes.text(0.5, 0.5, "0 in every run", transform=axes.transAxes, ha="center")
        finish(axes, field.replace("_", " "), "", label)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", fontsize=7)
    return figure


def layers_of(run: dict) -> list[str]:
    """Names of the layers with masks, in the order of the record, which is the model's."""
    return [key.rpartition("/")[0] for key in run["analysis"] if key.endswith("/sign_flips")]


def plasma(count: int):
    from matplotlib import colormaps

    return colormaps["plasma"](np.linspace(0, 0.85, count))


def finish(axes: Axes, title: str, xlabel: str, ylabel: str) -> None:
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)


def masked_runs(folder: Path) -> list[dict]:
    runs, _ = load(folder)
    return [run for run in runs if layers_of(run)]


def main() -> None:
    parser = parser_for("figures", __doc__)
    parser.add_argument("--runs", type=Path, help="folder with results.json of runs with masks")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    figures = {"fusions": fusions(), "depth": depth()}
    if arguments.runs:
        runs = masked_runs(arguments.runs)
        if not runs:
            sys.exit(f"{arguments.runs}: no completed run with masks")
        figures["sign_flips"] = after_training(runs)
    for name, figure in figures.items():
        figure.savefig(arguments.out / f"{name}.png", dpi=130)
        print(arguments.out / f"{name}.png")


if __name__ == "__main__":
    main()
