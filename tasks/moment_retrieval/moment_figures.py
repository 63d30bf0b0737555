"""What a model found in a video: the saliency of its clips over time, predicted windows and, where known, true ones.

>>> row = {"query": "a dog runs", "pred_relevant_windows": [[2, 6, 0.9]], "pred_saliency_scores": [0.1, 0.5, 0.9]}
>>> moments([row], clip_length=2.0).savefig("moments.png", dpi=150)
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

CURVE, PREDICTED, TRUE = "#35608d", "#b5367a", "#2a788e"
FAINTEST = 0.08  # a window of score 0 can still be seen
WIDTH, PANEL = 8.0, 1.9  # inches
LANE = 0.13  # height of a bar's lane, as a share of the curve's
LETTERS = 90  # letters per line of a title


def moments(rows: Sequence[Mapping[str, Any]], clip_length: float, windows: int = 5) -> Figure:
    """One panel per query: its saliency as steps, the first `windows` predicted windows as bars below, opaque by score.

    rows: rows of a submission: pred_relevant_windows [[start, end, score], ...], best first, seconds and [0, 1];
    pred_saliency_scores, one per clip; optional query (the title), relevant_windows [[start, end], ...] (true ones).
    clip_length: seconds. Raises ValueError: no row, a row without clips, windows below 1.
    """
    if not rows:
        raise ValueError("rows: no query to draw")
    if windows < 1:
        raise ValueError(f"windows: at least 1 must be drawn, got {windows}")
    figure = Figure(figsize=(WIDTH, PANEL * len(rows) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (axes, row) in enumerate(zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True)):
        if not len(row["pred_saliency_scores"]):
            raise ValueError(f"rows[{number}]: pred_saliency_scores is empty")
        _panel(axes, row, clip_length, windows)
    axes.set_xlabel("seconds")
    return figure


def _panel(axes: Axes, row: Mapping[str, Any], clip_length: float, windows: int) -> None:
    saliency = np.asarray(row["pred_saliency_scores"], dtype=float)
    predicted, true = row["pred_relevant_windows"][:windows], row.get("relevant_windows") or []
    edges = np.arange(len(saliency) + 1) * clip_length
    axes.stairs(saliency, edges, baseline=None, color=CURVE, linewidth=1.4)
    low, high = saliency.min(), saliency.max()
    lane = LANE * ((high - low) or 1.0)
    bars = [
        (PREDICTED, max(FAINTEST, min(1.0, score)), start, end, f" {score:.2f}", number)
        for number, (start, end, score) in enumerate(predicted)
    ]
    bars += [(TRUE, 1.0, *window[:2], "", len(predicted)) for window in true]  # all in one lane
    for colour, alpha, start, end, note, number in bars:
        bottom = low - lane * (number + 1.5)
        bar = [(start, end - start)], (bottom, 0.75 * lane)
        axes.broken_barh(*bar, facecolor=colour, alpha=alpha, linewidth=0)
        axes.text(end, bottom, note, fontsize=6, va="bottom")
    axes.set(xlim=(0, edges[-1]), ylabel="saliency")
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high] or [low])
    axes.set_title("\n".join(textwrap.wrap(str(row.get("query") or ""), LETTERS)), fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    kinds = {"predicted": PREDICTED} if predicted else {}
    kinds |= {"true": TRUE} if true else {}
    patches = [Patch(color=colour, label=name) for name, colour in kinds.items()]
    if patches:
        place = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0.2}
        axes.legend(handles=patches, ncols=2, fontsize=7, frameon=False, **place)
