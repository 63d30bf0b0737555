"""The ImageNet-1K datamodule on a small image folder: batch contract, splits, fractions, augmentation."""

import json
import logging
import math
import os
import pickle
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from datamodules.image_classification.subsets import class_orders, hold_out, take_fraction
from datamodules.loading import Unrepeated
from tests.datamodules.image_classification.small import (
    COUNTS,
    batches,
    encoded,
    joined,
    names_of,
    open_images,
    picture,
)

# The contract


@pytest.mark.parametrize("augment", ["timm", "none"])
def test_batch_contract(pristine, augment):
    data = open_images(pristine, augment=augment)
    for split, size in (("train", 4), ("val", 3), ("test", 3)):
        batch = batches(data, split)[0]
        assert set(batch) == {"image", "label", "name"}
        assert batch["image"].shape == (size, 3, 16, 16) and batch["image"].dtype == torch.float32
        assert batch["label"].shape == (size,) and batch["label"].dtype == torch.int64
        assert len(batch["name"]) == size and all(type(name) is str for name in batch["name"])


def test_evaluation_is_the_whole_split_in_order_of_names(pristine):
    data = open_images(pristine)
    found = joined(batches(data, "test"))
    on_disk = sorted(path.relative_to(pristine / "val").as_posix() for path in (pristine / "val").rglob("*.JPEG"))
    assert found["name"] == on_disk and len(on_disk) == 7
    assert [f"n0{label + 1}" for label in found["label"]] == [name.split("/")[0] for name in found["name"]]


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("crop_pct, interpolation", [(0.875, "bicubic"), (1.0, "bilinear")])
def test_evaluation_pixels_are_torchvisions(pristine, in_memory, crop_pct, interpolation):
    """The same pipeline written with torchvision alone, on the files."""
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
    data = open_images(
        pristine, in_memory=in_memory, crop_pct=crop_pct, interpolation=interpolation, mean=mean, std=std
    )
    assert (data.pictures["test"].held is not None) == in_memory
    pipeline = transforms.Compose(
        [
            transforms.Resize(math.floor(16 / crop_pct), getattr(transforms.InterpolationMode, interpolation.upper())),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    for split, place in (("test", "val"), ("val", "train"), ("train", "train")):
        found = joined(batches(data, split))
        for image, name in zip(found["image"], found["name"], strict=True):
            assert torch.equal(image, pipeline(Image.open(pristine / place / name)))


def test_facts(pristine):
    facts = open_images(pristine, val_split=0).facts()
    assert facts == {
        "classes": 3,
        "image_size": 16,
        "class_names": ["n01", "n02", "n03"],
        "class_folders": ["n01", "n02", "n03"],
        "train_counts": [7, 5, 13],
        "skipped": {"train": 0, "val": 0, "test": 0},
    }


def test_facts_after_prepare_data_alone_and_no_floors_for_real_data(pristine):
    data = open_images(pristine)
    data.pictures = {}
    data.prepare_data()
    assert data.facts()["classes"] == 3
    assert data.oracle() is None and data.linear_floor() is None


def test_no_validation(pristine):
    data = open_images(pristine, val_split=0)
    assert list(data.val_dataloader()) == [] and len(data.pictures["train"]) == 25


def test_validation_from_a_folder_of_its_own(folder):
    shutil.copytree(folder / "val", folder / "held")
    data = open_images(folder, val_split="held")
    assert names_of(data, "val") == names_of(data, "test") and len(data.pictures["train"]) == 25


def test_validation_on_the_test_images_is_warned_of(pristine, caplog):
    with caplog.at_level(logging.WARNING):
        open_images(pristine, val_split="val")
    assert "validation and test images are the same (val)" in caplog.text


def test_images_below_a_class_folder_are_found_and_other_files_are_counted(folder, caplog):
    (folder / "train/n02/images").mkdir()
    (folder / "train/n02/images/deep.Jpg").write_bytes(encoded(picture(0)))
    (folder / "train/n02/boxes.txt").write_text("0 0 1 1")
    (folder / "train/.DS_Store").write_text("x")
    with caplog.at_level(logging.WARNING):
        data = open_images(folder, val_split=0)
    assert "n02/images/deep.Jpg" in names_of(data, "train")
    assert "left out 2 files that are not images: .DS_Store, n02/boxes.txt" in caplog.text


@pytest.mark.parametrize("ranks", [1, 2, 3, 11])
def test_evaluation_across_ranks_repeats_nothing(pristine, ranks):
    pictures = open_images(pristine).pictures["test"]
    parts = [list(Unrepeated(pictures, 2, ranks, rank)) for rank in range(ranks)]
    assert sorted(index for part in parts for index in part) == list(range(7))


def test_a_data_set_pickles(pristine):
    """Workers that are started afresh (spawn) get it that way."""
    for augment in ("timm", "none"):
        pictures = open_images(pristine, augment=augment, in_memory="auto").pictures
        for split in ("train", "test"):
            copy = pickle.loads(pickle.dumps(pictures[split]))
            assert torch.equal(copy[[0, 2]]["image"], pictures[split][[0, 2]]["image"])


def test_auto_holds_what_is_small_and_never_what_timm_augments(pristine, monkeypatch):
    def held(**changes):
        return [pictures.held is not None for pictures in open_images(pristine, **changes).pictures.values()]

    assert held(in_memory="auto") == [True, True, True]
    assert held(in_memory="auto", augment="timm") == [False, True, True]
    monkeypatch.setattr("datamodules.image_classification.datamodule.SMALL", 16 * 16 * 3 * (25 + 7) - 1)
    assert held(in_memory="auto") == [False, False, False]
    assert held(in_memory=True) == [True, True, True]


# Classes


def test_a_class_index_gives_numbers_and_names(folder):
    table = {"0": ["n03", "tench"], "1": ["n01", "goldfish"], "2": ["n02", "great white shark"]}
    (folder / "index.json").write_text(json.dumps(table))
    (folder / "synsets.txt").write_text("n03 tench\nn01 goldfish\n\nn02 great white shark\n")
    for index in ("index.json", "synsets.txt"):
        data = open_images(folder, class_index=index, val_split=0)
        facts = data.facts()
        assert facts["class_names"] == ["tench", "goldfish", "great white shark"]
        assert facts["train_counts"] == [13, 7, 5]
        found = joined(batches(data, "test"))
        assert found["label"].tolist() == [{"n03": 0, "n01": 1, "n02": 2}[name[:3]] for name in found["name"]]


def test_a_test_split_may_lack_classes(folder):
    shutil.rmtree(folder / "val/n02")
    found = joined(batches(open_images(folder), "test"))
    assert set(found["label"].tolist()) == {0, 2}


# Splits and fractions


def test_held_out_images_are_from_all_classes_and_in_no_training(pristine):
    data = open_images(pristine, val_split=10)
    train, val = names_of(data, "train"), names_of(data, "val")
    assert val == sorted(val) and len(val) == 10 and len(set(train) | set(val)) == 25
    for name, size in COUNTS["train"].items():
        taken = sum(entry.startswith(name) for entry in val)
        assert abs(taken - 10 * size / 25) < 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.data())
def test_hold_out_takes_as_many_as_asked_and_leaves_every_class_one(sizes, data):
    orders = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    count = data.draw(st.integers(0, sum(sizes) - len(sizes)))
    held, rest = hold_out(orders, count)
    assert sum(map(len, held)) == count and min(map(len, rest)) >= 1
    for order, a, b in zip(orders, held, rest, strict=True):
        assert [*a, *b] == order.tolist()
        share = count * len(order) / sum(sizes)
        # more than its share only if another class has given all that it can
        assert len(a) <= share + 1 or any(len(others) == 1 for others in rest)
    if all(count * size / sum(sizes) + 1 <= size - 1 for size in sizes):
        assert all(abs(len(a) - count * s / sum(sizes)) < 1 for a, s in zip(held, sizes, strict=True))


def test_hold_out_takes_from_the_large_class_what_small_ones_cannot_give():
    held, rest = hold_out(np.split(np.arange(7), [1, 2]), 4)
    assert [len(order) for order in held] == [0, 0, 4]
    assert [len(order) for order in rest] == [1, 1, 1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=5),
    st.lists(st.floats(1e-6, 1.0), min_size=2, max_size=4),
    st.integers(0, 3),
)
def test_fractions_are_nested_stratified_and_take_at_least_one(sizes, fractions, seed):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    names = np.array([f"{label}/{place}".encode() for place, label in enumerate(labels)])
    orders = class_orders(labels, names, len(sizes), seed)
    before = [set() for _ in sizes]
    for fraction in sorted(fractions):
        taken = [set(order.tolist()) for order in take_fraction(orders, fraction)]
        for size, inside, outside, order in zip(sizes, before, taken, orders, strict=True):
            assert inside <= outside <= set(order.tolist())
            assert len(outside) == max(1, math.floor(fraction * size + 0.5))
        before = taken
    assert [len(order) for order in take_fraction(orders, 1.0)] == sizes
    assert [labels[order].tolist() for order in orders] == [[k] * size for k, size in enumerate(sizes)]


def test_a_fraction_changes_the_training_images_alone(pristine):
    whole, half, tenth = (open_images(pristine, fraction=fraction) for fraction in (1.0, 0.5, 0.1))
    assert set(names_of(tenth, "train")) < set(names_of(half, "train")) < set(names_of(whole, "train"))
    for split in ("val", "test"):
        assert names_of(tenth, split) == names_of(half, split) == names_of(whole, split)
    assert min(tenth.facts()["train_counts"]) == 1
    assert sum(whole.facts()["train_counts"]) == 21


def test_the_fractions_of_table_5_on_cifar10_are_500_2000_and_8000_images():
    """Balanced, and each inside the next; 5,000 of 50,000 images are held out."""
    labels, names = np.arange(50_000) % 10, np.array([f"train.parquet:{i:08d}".encode() for i in range(50_000)])
    _, rest = hold_out(class_orders(labels, names, 10, seed=1), 5000)
    taken = [take_fraction(rest, fraction) for fraction in (0.0111, 0.0444, 0.1778, 1.0)]
    assert [[len(one) for one in orders] for orders in taken] == [[n] * 10 for n in (50, 200, 800, 4500)]
    for few, more in pairwise(taken):
        assert all(set(a.tolist()) <= set(b.tolist()) for a, b in zip(few, more, strict=True))


def test_another_data_seed_takes_other_images(pristine):
    first, again, other = (names_of(open_images(pristine, fraction=0.5, seed=s), "train") for s in (0, 0, 1))
    assert first == again != other


def test_the_order_of_a_class_depends_on_no_other_image():
    names = np.array([f"a/{i}".encode() for i in range(40)])
    order = names[class_orders(np.zeros(40, int), names, 1, 0)[0]].tolist()
    fewer = np.delete(names, 17)
    shorter = fewer[class_orders(np.zeros(39, int), fewer, 1, 0)[0]].tolist()
    assert [name for name in order if name != b"a/17"] == shorter
    assert order != sorted(order)


def test_names_that_are_no_ascii(folder):
    name = "n01/übung 10 %.JPEG"
    (folder / "val" / name).write_bytes(encoded(picture(1)))
    found = joined(batches(open_images(folder), "test"))
    assert name in found["name"] and os.fsencode(name) in open_images(folder).pictures["test"].source.names
