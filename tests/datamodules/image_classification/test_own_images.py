"""Images of one's own: what lies in a folder is found, and shards and archives of other kinds are read."""

import json
import logging
import os
import shutil
from pathlib import Path

import pytest

from datamodules.errors import DataError
from datamodules.image_classification.folder import ImageFolder
from datamodules.image_classification.layout import found
from tests.datamodules.image_classification.small import (
    AUTO,
    batches,
    encoded,
    names_of,
    open_images,
    opened_again,
    picture,
    rows,
)

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

KIND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def sizes(data) -> list[int]:
    return [len(data.pictures[name]) for name in ("train", "val", "test")]


# What is found


def test_a_path_alone_is_enough_for_folders(folder, tmp_path):
    assert sizes(open_images(folder, **AUTO)) == [22, 3, 7]  # a tenth of 25 is held out, val is the test
    shutil.copytree(folder / "val", folder / "Test")
    assert sizes(open_images(folder, **AUTO, overlap="allow")) == [25, 7, 7]
    (folder / "train").rename(tmp_path / "alone")
    assert sizes(open_images(tmp_path / "alone", **AUTO)) == [18, 2, 5]  # a fifth is the test, then a tenth


def test_held_out_images_are_of_every_class_in_no_other_split_and_follow_the_seed(folder):
    data = open_images(folder, test=0.2, val_split=0.2)
    splits = [set(names_of(data, name)) for name in ("train", "val", "test")]
    assert [len(split) for split in splits] == [16, 4, 5] and len(set.union(*splits)) == 25
    assert {name[:3] for name in splits[2]} == {"n01", "n02", "n03"}
    assert set(names_of(open_images(folder, test=0.2, val_split=0.2, seed=1), "test")) != splits[2]


def test_a_test_folder_without_labels_is_not_the_test(folder):
    (folder / "test").mkdir()
    (folder / "test" / "1.png").write_bytes(encoded(picture(0), "PNG"))
    assert found(folder, "auto", "auto", "auto", "auto").test == "val"


def test_nothing_at_all_is_said_with_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"missing \*\*/train-\*\.parquet \(data.format=auto") as stop:
        open_images(tmp_path, **AUTO)
    assert str(stop.value).endswith("experiment=imagenet1k_baseline scale=mini trains on generated images.")


def test_of_fewer_images_than_the_usual_number_a_tenth_is_held_out(folder, caplog):
    with caplog.at_level(logging.WARNING):
        assert sizes(open_images(folder, format="auto", val_split=5000)) == [22, 3, 7]
    assert "data.val_split=5000 is more than the 25 training images can spare" in caplog.text
    with pytest.raises(DataError, match=r"data\.val_split=5000: at most 22 .* data\.val_split=0\.1, holds a tenth out"):
        open_images(folder, val_split=5000)


# Folders with what others leave behind


def test_hidden_folders_and_those_of_file_systems_are_left_out_and_named(folder, caplog):
    before = names_of(open_images(folder), "train")
    for place in ("n01/.ipynb_checkpoints", "n02/__MACOSX", "lost+found", "__MACOSX"):
        (folder / "train" / place).mkdir()
        (folder / "train" / place / "x-checkpoint.JPEG").write_bytes(encoded(picture(99)))
    with caplog.at_level(logging.WARNING):
        assert names_of(open_images(folder), "train") == before
    assert "left out 4 files that are not images: __MACOSX/, lost+found/, n01/.ipynb_checkpoints/" in caplog.text


def test_images_beside_the_class_folders_are_called_that(folder, caplog):
    (folder / "train" / "loose.png").write_bytes(encoded(picture(99), "PNG"))
    with caplog.at_level(logging.WARNING):
        open_images(folder)
    assert "left out 1 images that lie outside the class folders: loose.png" in caplog.text


@pytest.mark.parametrize("name, form", [("a.jfif", "JPEG"), ("a.jp2", "JPEG2000"), ("a.AVIF", "AVIF")])
def test_images_with_rarer_endings_are_read(folder, name, form):
    try:
        data = encoded(picture(7), form)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {form}")
    (folder / "val/n01" / name).write_bytes(data)
    assert f"n01/{name}" in [name for batch in batches(open_images(folder), "test") for name in batch["name"]]


def test_archives_instead_of_class_folders_are_called_that(folder):
    shutil.rmtree(folder / "train")
    (folder / "train").mkdir()
    (folder / "train" / "n01.tar").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"train holds no class folders but archives, such as n01\.tar: .*prepare_imagenet1k"
    ):
        open_images(folder)


def test_an_empty_class_folder_is_fine_in_a_test_and_in_training_if_that_is_meant(folder, caplog):
    (folder / "val" / "n04").mkdir()
    (folder / "train" / "n04").mkdir()
    with pytest.raises(DataError, match=r"train: no image in n04 .*data\.empty_classes=allow"):
        open_images(folder)
    with caplog.at_level(logging.WARNING):
        data = open_images(folder, empty_classes="allow")
    assert data.facts()["train_counts"][3] == 0 and data.facts()["classes"] == 4
    assert "no usable training image of class n04" in caplog.text
    (folder / "train" / "n04").rmdir()
    assert open_images(folder).facts()["classes"] == 3


def test_an_index_may_list_classes_without_images_if_that_is_meant(folder):
    (folder / "index.txt").write_text("n00\nn01\nn02\nn03\n")
    data = open_images(folder, class_index="index.txt", empty_classes="allow", val_split=0)
    assert data.facts()["train_counts"] == [0, 7, 5, 13]


# Shards


def write(path: Path, images: list, labels: list, columns=("image", "label"), names: list[str] | None = None) -> None:
    made = pa.table({columns[0]: images, columns[1]: labels})
    if names is not None:
        features = {columns[1]: {"names": names, "_type": "ClassLabel"}}
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, path, row_group_size=4)


@pytest.fixture
def shard_root(folder, tmp_path):
    """A function that writes both splits as shards; `form` makes the two columns of bytes and class names."""

    def made(form, columns=("image", "label"), names=None) -> Path:
        for split in ("train", "val"):
            files, words = zip(*rows(folder, split), strict=True)
            write(tmp_path / "shards" / f"{split}-00000-of-00001.parquet", *form(files, words), columns, names)
        return tmp_path / "shards"

    return made


def structs(files) -> pa.Array:
    return pa.array([{"bytes": data, "path": None} for data in files], KIND)


FORMS = {
    "binary": lambda files, words: (pa.array(files, pa.binary()), [int(word[1:]) - 1 for word in words]),
    "text": lambda files, words: (structs(files), list(words)),
    "dictionary": lambda files, words: (structs(files), pa.array(list(words)).dictionary_encode()),
}


@pytest.mark.parametrize("form", FORMS)
def test_bytes_without_a_struct_and_labels_in_words_are_read(folder, shard_root, form):
    root = shard_root(FORMS[form])
    shards, plain = open_images(root, **AUTO), open_images(folder, val_split=0.1)
    for a, b in zip(batches(shards, "test"), batches(plain, "test"), strict=True):
        assert (a["image"] == b["image"]).all() and (a["label"] == b["label"]).all()
    if form != "binary":
        assert shards.facts()["class_names"] == ["n01", "n02", "n03"]


def test_columns_may_have_any_name(shard_root):
    root = shard_root(FORMS["text"], columns=("pixels", "kind"))
    with pytest.raises(DataError, match=r"has the columns pixels, kind; .*data\.image_column, data\.label_column"):
        open_images(root, **AUTO)
    assert sum(sizes(open_images(root, **AUTO, image_column="pixels", label_column="kind"))) == 32


def test_cifar_100s_columns_are_known(shard_root):
    root = shard_root(FORMS["binary"], columns=("img", "fine_label"), names=["a", "b", "c"])
    assert open_images(root, **AUTO).facts()["class_names"] == ["a", "b", "c"]


def test_shards_of_one_split_that_name_other_classes_are_refused(shard_root, folder):
    root = shard_root(FORMS["binary"], names=["a", "b", "c"])
    files, words = zip(*rows(folder, "val"), strict=True)
    write(root / "train-00001-of-00001.parquet", *FORMS["binary"](files, words), names=["a", "c", "b"])
    with pytest.raises(DataError, match=r"train-00001.* calls class 1 'c', and .*train-00000.* calls it 'b'"):
        open_images(root, **AUTO)


def test_a_test_whose_shards_number_the_classes_differently_is_mapped_by_name(shard_root, folder):
    root = shard_root(FORMS["binary"], names=["n01", "n02", "n03"])
    files, words = zip(*rows(folder, "val"), strict=True)
    turned = ["n03", "n01", "n02"]
    write(root / "val-00000-of-00001.parquet", structs(files), [turned.index(word) for word in words], names=turned)
    (root / "names.txt").write_text("one\ntwo\nthree\n")
    for index in (None, "names.txt"):
        data = open_images(root, **AUTO, class_index=index)
        labels = [int(label) for batch in batches(data, "test") for label in batch["label"]]
        assert labels == [int(word[1:]) - 1 for word in words]


def test_a_class_that_no_row_has_may_be_kept(shard_root):
    root = shard_root(FORMS["binary"], names=["n01", "n02", "n03", "fox"])
    with pytest.raises(DataError, match=r"no usable training image of class fox.*data\.empty_classes=allow"):
        open_images(root, **AUTO)
    assert open_images(root, **AUTO, empty_classes="allow").facts()["train_counts"][3] == 0


def test_a_copy_of_a_shard_under_another_name_is_seen(shard_root):
    root = shard_root(FORMS["text"])
    shutil.copy(root / "train-00000-of-00001.parquet", root / "val-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"data\.test matches shards of data\.train"):
        open_images(root, **AUTO)


def test_weights_are_tested_on_shards(shard_root):
    root = shard_root(FORMS["text"])
    trained = open_images(root, **AUTO)
    assert names_of(opened_again(root, trained.facts(), **AUTO), "test") == names_of(trained, "test")


def test_names_that_are_no_text_and_tests_without_an_image_do_not_end_a_training_late(folder):
    (folder / "val" / "n01" / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded(picture(0), "PNG"))
    names = names_of(open_images(folder), "test")
    assert r"n01/caf\udce9.png" in names and all(name.encode() for name in names)
    for path in (folder / "val").rglob("*.*"):
        path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="val: none of its 8 images can be decoded"):
        open_images(folder, corrupt="skip")


def test_a_folder_that_may_be_empty_still_needs_an_image(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="no image in a"):
        ImageFolder(tmp_path, may_be_empty=True)


def test_folders_are_found_without_a_search_through_all_images(folder, monkeypatch):
    monkeypatch.setattr("datamodules.image_classification.layout._kind", lambda *_: pytest.fail("searched for shards"))
    assert found(folder, "auto", "auto", "auto", "auto").test == "val"
    (folder / "train").rename(folder / "Training")
    assert found(folder, "auto", "auto", "auto", "auto").train == "Training"


def test_folders_of_splits_are_not_taken_for_classes(folder):
    (folder / "train").rename(folder / "test")
    with pytest.raises(DataError, match=r"missing \*\*/train-\*\.parquet.*or a folder train of images"):
        open_images(folder, **AUTO)


def test_a_class_that_is_called_like_a_split_has_to_be_explained(folder):
    root = folder / "train"
    (root / "n03").rename(root / "train")
    with pytest.raises(DataError, match=r"train may be a class or a split; .*data\.train=\. data\.test=0\.2"):
        open_images(root, **AUTO)
    assert open_images(root, **{**AUTO, "train": ".", "test": 0.2}).facts()["classes"] == 3
