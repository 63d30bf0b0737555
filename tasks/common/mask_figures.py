"""The paper's two kinds of pictures, as matplotlib figures that need no display.

    mask_heat_map(mask, boundaries=[25], labels=["visual", "audio"], title="layer 1").savefig("mask.png", dpi=200)

Colours are chosen so that a printed page and a colour-blind reader keep the order of the values.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lcaam import analysis

BINS = 50


def mask_heat_map(
    mask: np.ndarray,
    boundaries: Sequence[int] = (),
    labels: Sequence[str] = (),
    title: str = "",
    queries: str = "query token",
    keys: str = "key token",
    neutral: float = 0.0,
) -> Figure:
    """One mask, queries down and keys across, as in the paper's Figures S6, S8 and S9.

    mask: (N_q, N_k). boundaries: where a block of tokens ends and the next begins, e.g. [25]; labels: the blocks'
    names, one more than boundaries. queries, keys: what the axes count.
    neutral: the mask value that leaves plain attention (`Fusion.neutral`). Two colours meet there and reach equally far
    to both sides, so that the colour says whether a value lifts or lowers a score, and by how much.
    """
    mask = np.asarray(mask, dtype=np.float64)
    if mask.ndim != 2:
        raise ValueError(f"mask: shape {mask.shape} is not (queries, keys)")
    largest = float(np.abs(mask - neutral).max()) or 1.0  # all neutral: any range shows one colour
    norm = Normalize(neutral - largest, neutral + largest)
    figure, (axes,) = _figure(1, width=5.0, height=4.2)
    image = axes.imshow(mask, cmap="RdBu_r", norm=norm, interpolation="nearest")
    _mark_blocks(axes, mask.shape, boundaries, labels)
    axes.set(title=title, xlabel=keys, ylabel=queries)
    figure.colorbar(image, ax=axes, fraction=0.046, pad=0.04, label="mask value $M_{ij}$")
    return figure


def attention_histogram(weights: Mapping[str, np.ndarray], title: str) -> Figure:
    """How many attention weights have which size, one panel per layer, counts on a log scale (Figures S5 and S7).

    weights: layer name -> softmax outputs in [0, 1], of any shape.
    """
    if not weights:
        raise ValueError("weights: no layer to draw")
    figure, panels = _figure(len(weights), width=3.4 * len(weights), height=2.8)
    for axes, (layer, values) in zip(panels, weights.items(), strict=True):
        counts, edges = analysis.attention_histogram(torch.as_tensor(values), bins=BINS)
        axes.stairs(counts.numpy(), edges.numpy(), fill=True, color="#35608d")
        axes.set_yscale("log")
        axes.set(title=layer, xlabel="attention weight", xlim=(0, 1))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"count (bins of {1 / BINS:g})")
    figure.suptitle(title)
    return figure


def _figure(panels: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure in inches, outside pyplot's global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False, sharey=True)
    return figure, list(axes[0])


def _mark_blocks(axes: Axes, shape: tuple[int, int], boundaries: Sequence[int], labels: Sequence[str]) -> None:
    """Draws a line between blocks and, if the axis has all blocks, their names beside their middles."""
    queries, keys = shape
    for edge in boundaries:
        if edge < keys:
            axes.axvline(edge - 0.5, color="black", linewidth=0.8)
        if edge < queries:
            axes.axhline(edge - 0.5, color="black", linewidth=0.8)
    for size, name, place in ((keys, "x", axes.set_xticks), (queries, "y", axes.set_yticks)):
        edges = [0, *boundaries, size]
        if len(labels) == len(edges) - 1 and edges == sorted(set(edges)):
            middles = [(start + end - 1) / 2 for start, end in pairwise(edges)]
            place(middles, labels)
            axes.tick_params(axis=name, length=0)
