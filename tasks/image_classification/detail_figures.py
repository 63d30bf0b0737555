"""Figures of a test: accuracy of each class, confusion matrix, calibration.

>>> figures(details, matrix, names)["calibration"].savefig("calibration.png")
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

NAMED = 40  # classes whose names fit beside a matrix
BARS = 60  # classes in the figure of accuracies: the best and the worst of more


def figures(details: Mapping[str, Any], matrix: np.ndarray, names: Sequence[str]) -> dict[str, Figure]:
    """By the name of the file. matrix: (classes, classes), rows are labels."""
    tested = [number for number, each in enumerate(details["classes"]) if each["images"]]
    found = {"class_accuracy": accuracies(details["classes"]), "calibration": reliability(details["calibration"])}
    return found | {"confusion": confusion_map(matrix[tested], names, tested)}


def confusion_map(matrix: np.ndarray, names: Sequence[str], tested: Sequence[int]) -> Figure:
    """matrix: (tested classes, all classes). A row's colours are shares of the images of its class."""
    side = min(12.0, 3 + 0.22 * len(names)) if len(names) <= NAMED else 8.0
    figure, axes = canvas(side + 1, side)
    picture = axes.imshow(matrix / matrix.sum(1, keepdims=True), vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set(xlabel="predicted", ylabel="label")
    if len(names) <= NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(tested)), [names[number] for number in tested], fontsize=7)
    figure.colorbar(picture, label="share of the label's images")
    return figure


def accuracies(classes: Sequence[Mapping[str, Any]]) -> Figure:
    """Horizontal bars, the best class on top; of many classes the best and the worst."""
    tested = sorted((each for each in classes if each["images"]), key=lambda each: each["accuracy"])
    half = BARS // 2
    drawn = tested if len(tested) <= BARS else tested[:half] + tested[-half:]
    figure, axes = canvas(6, 1 + 0.18 * len(drawn))
    axes.barh(range(len(drawn)), [each["accuracy"] for each in drawn], color="#4477aa")
    axes.set_yticks(range(len(drawn)), [each["class"] for each in drawn], fontsize=7)
    axes.set(xlim=(0, 100), xlabel="percent right")
    if len(drawn) < len(tested):
        axes.axhline(half - 0.5, color="black", lw=0.8)
        axes.set_title(f"the best and the worst {half} of {len(tested)} classes", fontsize=8)
    return figure


def reliability(calibration: Mapping[str, Any]) -> Figure:
    """Share that was right against mean probability, by bin of probability; dots are as large as their images."""
    figure, axes = canvas(4.5, 4.2)
    bins = calibration["bins"]
    images = np.array([each["images"] for each in bins], dtype=float)
    axes.plot([0, 100], [0, 100], color="grey", lw=0.8)
    axes.plot([each["probability"] for each in bins], [each["accuracy"] for each in bins], color="#4477aa", lw=1)
    sizes = 15 + 150 * images / images.max()
    axes.scatter([each["probability"] for each in bins], [each["accuracy"] for each in bins], s=sizes, color="#4477aa")
    axes.set(xlim=(0, 100), ylim=(0, 100), xlabel="mean probability, percent", ylabel="right, percent")
    axes.set_title(f"expected calibration error {calibration['error']:.2f} %", fontsize=9)
    return figure


def canvas(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()
