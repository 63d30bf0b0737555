"""Parquet shards: the same batches as from an image folder, training order by row groups, and damaged shards."""

import json
import pickle
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.errors import DataError
from datamodules.image_classification.orders import GroupShuffle
from datamodules.image_classification.shards import ImageShards
from tests.datamodules.image_classification.small import (
    batches,
    encoded,
    names_of,
    open_images,
    picture,
    same,
    write_images,
)

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

PATTERNS = {"format": "parquet", "train": "data/train-*.parquet", "test": "data/validation-*.parquet"}
CLASSES = ["n01", "n02", "n03"]


def table(images: list[bytes | None], labels: list[int | None], names=None) -> pa.Table:
    """Rows as the hub stores them; names: class names in the metadata, as the datasets library writes them."""
    images = [{"bytes": data, "path": f"{number}.JPEG"} for number, data in enumerate(images)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = pa.table({"image": pa.array(images, kind), "label": pa.array(labels, pa.int64())})
    if names is not None:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return made


def write_shards(root: Path, images: Path, names=CLASSES, sizes=(11, 8), group: int = 3) -> Path:
    """The images of a folder as shards of `sizes` rows (the rest in one more), `group` rows per row group."""
    (root / "data").mkdir(parents=True)
    for split, shard in (("train", "train"), ("val", "validation")):
        paths = sorted((images / split).rglob("*.JPEG"))
        rows = [(path.read_bytes(), CLASSES.index(path.parent.name)) for path in paths]
        cuts = np.split(np.arange(len(rows)), [c for c in np.cumsum(sizes) if c < len(rows)])
        for number, cut in enumerate(cuts):
            made = table([rows[i][0] for i in cut], [rows[i][1] for i in cut], names)
            name = f"{shard}-{number:05d}-of-{len(cuts):05d}.parquet"
            pq.write_table(made, root / "data" / name, row_group_size=group)
    return root


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def folder(images, tmp_path) -> Path:
    return write_shards(tmp_path / "shards", images)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_shards_and_folder_hold_the_same_images(images, folder, in_memory, workers):
    shards = open_images(folder, **PATTERNS, in_memory=in_memory, num_workers=workers, val_split=0)
    plain = open_images(images, val_split=0)
    assert shards.facts() == plain.facts()
    for a, b in zip(batches(shards, "test"), batches(plain, "test"), strict=True):
        assert torch.equal(a["image"], b["image"]) and torch.equal(a["label"], b["label"])


def test_auto_finds_shards_at_any_depth_and_prefers_folders(images, folder, tmp_path):
    data = folder / "data"
    for path in sorted(data.glob("validation-*")):
        path.rename(data / path.name.replace("validation", "test"))
    found = open_images(folder, format="auto", train="train", test="test", val_split=0)
    plain = open_images(images, format="auto", val_split=0)
    assert names_of(found, "train")[0] == "data/train-00000-of-00003.parquet:00000000"
    assert plain.pictures["train"].source.by_folder and found.facts() == plain.facts()
    what = r"missing \*\*/train-\*.parquet.*data.format=auto: or a folder train of images.*`x` makes them"
    with pytest.raises(DataError, match=what):
        open_images(tmp_path / "empty", format="auto", test="test", maker="x")


def test_the_column_of_images_may_be_called_img(folder):
    """As in the hub's CIFAR-10."""
    before = open_images(folder, **PATTERNS, val_split=0, in_memory=False)
    (first, *_) = batches(before, "train")
    for path in sorted((folder / "data").glob("*.parquet")):
        made = pq.read_table(path)
        pq.write_table(made.rename_columns(["img", "label"]), path, row_group_size=3)
    assert same(batches(open_images(folder, **PATTERNS, val_split=0, in_memory=False), "train")[:1], [first])


def test_names_are_shard_and_row_and_sorted(folder):
    data = open_images(folder, **PATTERNS, val_split=0)
    names = names_of(data, "train")
    assert names == sorted(names) and len(set(names)) == 25
    assert names[0] == "data/train-00000-of-00003.parquet:00000000"
    assert names[-1] == "data/train-00002-of-00003.parquet:00000005"
    assert batches(data, "test")[0]["name"][1] == "data/validation-00000-of-00001.parquet:00000001"


@pytest.mark.parametrize("in_memory, augment", [(False, "none"), (False, "timm"), ("auto", "timm"), (True, "none")])
def test_an_epoch_is_every_training_image_once(folder, in_memory, augment):
    data = open_images(folder, **PATTERNS, in_memory=in_memory, augment=augment, batch_size=3, shuffle_groups=2)
    orders = []
    for epoch in (0, 1):
        found = [name for batch in batches(data, "train", epoch) for name in batch["name"]]
        assert sorted(found) == names_of(data, "train") and len(found) == 21
        orders.append(found)
    assert orders[0] != orders[1] and orders[0] != sorted(orders[0])


def test_workers_change_no_training_batch(folder):
    def epoch(workers):
        torch.manual_seed(4)
        return batches(open_images(folder, **PATTERNS, augment="timm", num_workers=workers), "train", 1)

    for a, b in zip(epoch(0), epoch(2), strict=True):
        assert a["name"] == b["name"] and torch.equal(a["image"], b["image"])


def test_every_row_group_is_read_once_an_epoch(folder, monkeypatch):
    """That is what the order by groups is for: shuffled rows would read each group again and again."""
    reads = Counter()
    read = pq.ParquetFile.read_row_group

    def counted(file, group, **options):
        reads[file.metadata.num_rows, group] += 1
        return read(file, group, **options)

    data = open_images(folder, **PATTERNS, in_memory=False, val_split=0, shuffle_groups=2, batch_size=1)
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    assert len(batches(data, "train")) == 25
    assert set(reads.values()) == {1} and len(reads) == 4 + 3 + 2  # groups of 3 in shards of 11, 8, 6 rows


# The order by groups


GROUPS = np.repeat(np.arange(9), [3, 3, 1, 3, 3, 2, 3, 3, 1])


@pytest.mark.parametrize("window", [1, 2, 4, 100])
def test_rows_are_mixed_within_windows_of_groups(window):
    sampler = GroupShuffle(GROUPS, window, seed=0)
    mixed = False
    for epoch in range(20):
        sampler.set_epoch(epoch)
        order = [draw.index for draw in sampler]
        assert sorted(order) == list(range(len(GROUPS))) and len(sampler) == len(GROUPS)
        seen = GROUPS[order].tolist()
        open_groups, left = set(), Counter(GROUPS.tolist())
        for group in seen:
            open_groups.add(group)
            assert len(open_groups) <= window
            left[group] -= 1
            if all(left[g] == 0 for g in open_groups):
                open_groups = set()
        mixed |= any(a > b for a, b in pairwise(order) if GROUPS[a] == GROUPS[b])
        assert all((draw.epoch, draw.seed) == (epoch, 0) for draw in sampler)
    assert mixed


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 22, 30])
def test_ranks_get_equally_many_and_no_sample_twice_if_there_are_enough(ranks):
    parts = [[d.index for d in GroupShuffle(GROUPS, 2, 7, ranks, rank)] for rank in range(ranks)]
    assert len({len(part) for part in parts}) == 1
    seen = Counter(index for part in parts for index in part)
    if ranks <= 22:
        assert max(seen.values()) == 1 and 22 - ranks < len(seen) <= 22
    else:
        assert set(seen) == set(range(22)) and sum(seen.values()) == ranks


def test_a_run_that_stopped_goes_on_amid_the_epoch():
    sampler = GroupShuffle(GROUPS, 2, 7)
    whole = list(sampler)
    sampler.skip = 5
    assert list(sampler) == whole[5:] and list(sampler) == whole


# Classes


def test_names_of_the_classes_come_from_the_metadata_an_index_or_nowhere(images, tmp_path):
    named = open_images(write_shards(tmp_path / "a", images, ["tench", "goldfish", "shark"]), **PATTERNS)
    assert named.facts()["class_names"] == ["tench", "goldfish", "shark"]
    nameless = open_images(write_shards(tmp_path / "b", images, names=None), **PATTERNS)
    assert nameless.facts()["class_names"] is None and nameless.facts()["classes"] == 3
    (tmp_path / "b/synsets.txt").write_text("n01 eins\nn02 zwei\nn03 drei\n")
    indexed = open_images(tmp_path / "b", **PATTERNS, class_index="synsets.txt")
    assert indexed.facts()["class_names"] == ["eins", "zwei", "drei"]


def test_a_class_without_training_rows_is_named(images, tmp_path):
    folder = write_shards(tmp_path / "a", images, [*CLASSES, "n04"])
    with pytest.raises(DataError, match="no usable training image of class n04"):
        open_images(folder, **PATTERNS)


def test_a_label_beyond_the_classes_is_named(folder):
    path = folder / "data/validation-00000-of-00001.parquet"
    pq.write_table(table([encoded(picture(0))], [3]), path)
    with pytest.raises(DataError, match=r"validation-\*\.parquet has label 3; the classes are 0 to 2"):
        open_images(folder, **PATTERNS)


# Defects


def test_without_pyarrow_the_error_says_how_to_get_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"data\.format=parquet reads shards with pyarrow: pip install pyarrow"):
        open_images(folder, **PATTERNS)


def test_missing_shards_are_named(folder):
    with pytest.raises(DataError, match=r"missing data/test-\*\.parquet \(data\.format=parquet: shards\)"):
        open_images(folder, **{**PATTERNS, "test": "data/test-*.parquet"})
    with pytest.raises(DataError, match="missing data "):  # a folder is not a shard
        open_images(folder, **{**PATTERNS, "test": "data"})


@pytest.mark.parametrize("split", ["test", "val_split"])
def test_a_shard_that_is_trained_on_is_no_test(folder, split):
    with pytest.raises(DataError, match=rf"data\.{split} matches shards of data\.train: .*train-00001-of-"):
        open_images(folder, **{**PATTERNS, split: "data/*-00001-of-*.parquet"})


@pytest.mark.parametrize("pattern", ["", "/data/x-*.parquet"])
def test_a_pattern_that_is_not_below_the_root(folder, pattern):
    with pytest.raises(DataError, match="is not a pattern relative to data.root"):
        open_images(folder, **{**PATTERNS, "test": pattern})


@pytest.mark.parametrize(
    "rows, message",
    [
        (pa.table({"pixels": [b"x"], "label": [0]}), "has the columns pixels, label; needed are columns image"),
        (pa.table({"image": ["x"], "label": [0]}), "needed are columns image.*data.image_column"),
        (table([b"x"], [0]).drop_columns(["label"]), "column label is None"),
        (
            table([b"x"], [0]).set_column(1, "label", pa.array([0.5])),
            "column label is double, of the columns image, label",
        ),
        (table([b"x"] * 3, [0, -1, -1]), r"label -1 in row 1 \(2 such rows\).*the hub's test shards are unlabelled"),
        (table([b"x"] * 2, [0, None]), r"label None in row 1 \(1 such rows\)"),
        (table([], []), r"hold no row"),
    ],
)
def test_a_shard_of_another_form_is_described(folder, rows, message):
    pq.write_table(rows, folder / "data/validation-00000-of-00001.parquet")
    with pytest.raises(DataError, match=message):
        open_images(folder, **PATTERNS)


def test_a_truncated_shard_is_named(folder):
    path = folder / "data/train-00001-of-00003.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=f"{path} cannot be read as Parquet"):
        open_images(folder, **PATTERNS)


def test_damage_within_a_shard_names_shard_and_group(folder):
    path = folder / "data/validation-00000-of-00001.parquet"
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"validation-00000-of-00001\.parquet(, row group 0, cannot be read|:0000)"):
        batches(open_images(folder, **PATTERNS, in_memory=False), "test")


@pytest.mark.parametrize("data, message", [(None, "has no bytes"), (b"no image", "cannot be decoded")])
def test_a_row_without_an_image_is_named_or_skipped(folder, data, message):
    path = folder / "data/validation-00000-of-00001.parquet"
    pq.write_table(table([encoded(picture(0)), data, encoded(picture(1))], [0, 1, 2]), path)
    with pytest.raises(DataError, match=rf"validation-00000-of-00001\.parquet:00000001 {message}"):
        open_images(folder, **PATTERNS, in_memory=True)
    skipping = open_images(folder, **PATTERNS, corrupt="skip")
    assert skipping.facts()["skipped"] == {"train": 0, "val": 0, "test": 1}
    assert [int(label) for batch in batches(skipping, "test") for label in batch["label"]] == [0, 2]


def test_a_source_pickles_after_it_was_read(folder):
    shards = ImageShards(folder, PATTERNS["train"], cached=2)
    first = shards.read(5)
    assert pickle.loads(pickle.dumps(shards)).read(5) == first
