"""What a test says beside its accuracy: accuracy of each class, which classes are taken for which, calibration.

>>> found = details_of(module.predictions, classes)
>>> found["calibration"]["error"]           # expected calibration error, percent
>>> write_details(folder, found, module.predictions)

Everything follows from the rows of predictions/test.jsonl. Class accuracy, confusion matrix and calibration error are
torchmetrics'.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_calibration_error, multiclass_confusion_matrix

from datamodules.image_classification.class_index import Classes
from datamodules.image_classification.matching import shown
from tasks.common.files import write_text

BINS = 15  # of the calibration error, as is usual (arXiv 1706.04599)
MOST_CONFUSED = 20  # pairs in results.json; the whole matrix is a csv file


def confusion(rows: Sequence[Mapping[str, Any]], classes: int) -> Tensor:
    """(classes, classes) int64: how many images of the class of the row were taken for the class of the column."""
    predicted, labels = (torch.tensor([row[name] for row in rows]) for name in ("predicted", "label"))
    return multiclass_confusion_matrix(predicted, labels, num_classes=classes)


def details_of(rows: Sequence[Mapping[str, Any]], classes: Classes) -> dict[str, Any]:
    """JSON values, empty without rows.

    classes: for each class its name, its folder, its images in the test, and the percent of them that were right (None:
    no image). confused: the pairs of classes that are confused most, with their numbers of images. calibration: the
    expected calibration error of the best class's probability in percent, and for each bin of probability its images,
    their mean probability and the share that was right, both in percent.
    """
    if not rows:
        return {}
    names, matrix = shown(classes), confusion(rows, len(classes))
    images, right = matrix.sum(1).tolist(), matrix.diagonal().tolist()
    each = [
        {"class": name, "folder": folder, "images": n, "accuracy": round(100 * k / n, 4) if n else None}
        for name, folder, n, k in zip(names, classes.folders, images, right, strict=True)
    ]
    wrong = matrix.clone().fill_diagonal_(0).flatten()
    most = wrong.argsort(descending=True, stable=True)[:MOST_CONFUSED].tolist()
    pairs = [
        {"label": names[place // len(names)], "predicted": names[place % len(names)], "images": int(wrong[place])}
        for place in most
        if wrong[place]
    ]
    return {"classes": each, "confused": pairs, "calibration": calibration(rows)}


def calibration(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Whether an answer given with a probability of 0.8 is right in 80 of 100 cases."""
    sure = torch.tensor([row["probability"] for row in rows]).clamp(0, 1)  # rounding may exceed 1
    right = torch.tensor([row["predicted"] == row["label"] for row in rows]).long()
    place = (sure * BINS).ceil().long().clamp(1, BINS) - 1  # bins are (lower, upper]
    bins = []
    for number in range(BINS):
        inside = place == number
        if count := int(inside.sum()):
            values = {"probability": sure[inside].mean(), "accuracy": right[inside].double().mean()}
            percent = {name: round(100 * float(value), 4) for name, value in values.items()}
            bins.append({"upper": round(100 * (number + 1) / BINS, 4), "images": count, **percent})
    error = binary_calibration_error(sure, right, n_bins=BINS, norm="l1")
    return {"error": round(100 * float(error), 4), "bins": bins}


def write_details(folder: Path, found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """predictions/classes.csv and confusion.csv, and figures of them and of the calibration. Nothing without rows."""
    if not found:
        return
    from tasks.image_classification.detail_figures import figures  # matplotlib takes a second

    names = [each["class"] for each in found["classes"]]
    matrix = confusion(rows, len(names))
    write_table(
        folder / "predictions" / "classes.csv", [[*found["classes"][0]], *(each.values() for each in found["classes"])]
    )
    table = [[name, *counts] for name, counts in zip(names, matrix.tolist(), strict=True)]
    write_table(folder / "predictions" / "confusion.csv", [["label", *names], *table])
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    for name, figure in figures(found, matrix.numpy(), names).items():
        figure.savefig(folder / "figures" / f"{name}.png", dpi=150)


def write_table(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
