"""Accuracy of each class, confusion and calibration, compared with slow references and with torchmetrics on logits."""

import csv
import json

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from datamodules.image_classification.class_index import Classes
from tasks.image_classification.details import confusion, details_of, write_details
from tasks.image_classification.module import rows

NAMES = ("ant", "bee", "cat", "dog")


@pytest.fixture
def predicted():
    logits = torch.randn(101, 4, generator=torch.Generator().manual_seed(3)) * 2
    label = torch.arange(101) % 3  # no dog
    batch = {"name": [f"{i:03}" for i in range(101)], "label": label}
    return rows(logits, batch, NAMES), logits, label


def test_rows_have_names_beside_numbers(predicted):
    found, logits, label = predicted
    for row, its, number in zip(found, logits, label.tolist(), strict=True):
        assert (row["label"], row["label_name"]) == (number, NAMES[number])
        assert row["predicted_name"] == NAMES[int(its.argmax())] == row["top5_names"][0]
        assert row["top5_names"] == [NAMES[i] for i in row["top5"]]
    assert "label_name" not in rows(logits, {"name": ["a"] * 101, "label": label})[0]


def test_accuracy_of_each_class_and_confusion_are_counts(predicted):
    found, logits, label = predicted
    details = details_of(found, Classes(NAMES, NAMES))
    best = logits.argmax(1)
    for number, each in enumerate(details["classes"]):
        mine = label == number
        right = 100 * (best[mine] == number).double().mean().item() if mine.any() else None
        assert each == {"class": NAMES[number], "folder": NAMES[number], "images": int(mine.sum()),
                        "accuracy": right if right is None else pytest.approx(right, abs=1e-4)}  # fmt: skip
    matrix = confusion(found, 4)
    for i in range(4):
        for j in range(4):
            assert matrix[i, j] == sum(a == i and b == j for a, b in zip(label.tolist(), best.tolist(), strict=True))
    first = details["confused"][0]
    assert first["images"] == max(int(matrix[i, j]) for i in range(4) for j in range(4) if i != j)
    assert first["images"] == matrix[NAMES.index(first["label"]), NAMES.index(first["predicted"])]


def test_the_calibration_error_is_that_of_the_probabilities(predicted):
    found, logits, label = predicted
    told = details_of(found, Classes(NAMES, NAMES))["calibration"]
    expected = multiclass_calibration_error(logits.softmax(-1), label, num_classes=4, n_bins=15, norm="l1")
    assert told["error"] == pytest.approx(100 * expected.item(), abs=1e-3)
    assert sum(each["images"] for each in told["bins"]) == 101
    slow = sum(each["images"] * abs(each["accuracy"] - each["probability"]) for each in told["bins"]) / 101
    assert slow == pytest.approx(told["error"], abs=1e-3)


def test_tables_and_figures_are_written(predicted, tmp_path):
    found, _, _ = predicted
    details = details_of(found, Classes(NAMES, NAMES))
    json.dumps(details)
    write_details(tmp_path, details, found)
    with (tmp_path / "predictions" / "confusion.csv").open() as file:
        table = list(csv.reader(file))
    assert table[0] == ["label", *NAMES] and [row[0] for row in table[1:]] == list(NAMES)
    assert [[int(cell) for cell in row[1:]] for row in table[1:]] == confusion(found, 4).tolist()
    assert (
        (tmp_path / "predictions" / "classes.csv").read_text().startswith("class,folder,images,accuracy\nant,ant,34,")
    )
    for name in ("confusion", "calibration", "class_accuracy"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 1000


def test_without_rows_there_is_nothing(tmp_path):
    assert details_of([], Classes(NAMES, NAMES)) == {}
    write_details(tmp_path, {}, [])
    assert not list(tmp_path.iterdir())
