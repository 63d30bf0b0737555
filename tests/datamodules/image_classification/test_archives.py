"""WebDataset archives of images are read like folders, and what is wrong with one is named."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from tests.datamodules.image_classification.small import (
    AUTO,
    batches,
    encoded,
    names_of,
    open_images,
    opened_again,
    picture,
    rows,
    same,
)


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size = len(data)
    archive.addfile(about, io.BytesIO(data))


def write_tars(images: Path, root: Path, label: str = "cls") -> Path:
    root.mkdir()
    for split in ("train", "val"):
        every = rows(images, split)
        for number, part in enumerate(np.array_split(np.arange(len(every)), 2)):
            with tarfile.open(root / f"{split}-{number:06d}.tar", "w") as archive:
                add(archive, "README.txt", b"no sample")
                for index in part.tolist():
                    data, word = every[index]
                    add(archive, f"some/{index:06d}.jpg", data)
                    told = json.dumps({"label": int(word[1:]) - 1}) if label == "json" else word
                    add(archive, f"some/{index:06d}.{label}", told.encode())
    return root


@pytest.fixture
def tars(folder, tmp_path):
    pytest.importorskip("webdataset", reason="webdataset is optional (extra webdataset)")
    return write_tars(folder, tmp_path / "tars")


def test_archives_hold_the_images_of_the_folder(folder, tars, tmp_path):
    data, plain = open_images(tars, **AUTO), open_images(folder, val_split=0.1)
    for a, b in zip(batches(data, "test"), batches(plain, "test"), strict=True):
        assert (a["image"] == b["image"]).all() and (a["label"] == b["label"]).all()
    assert names_of(data, "test")[0] == "val-000000.tar:some/000000"
    assert data.facts()["class_names"] == ["n01", "n02", "n03"]
    numbers = open_images(write_tars(folder, tmp_path / "json", "json"), **AUTO)
    assert numbers.facts()["class_names"] is None and numbers.facts()["classes"] == 3
    helped = open_images(tars, **AUTO, num_workers=2, in_memory=False)
    assert same(batches(open_images(tars, **AUTO, in_memory=False), "train"), batches(helped, "train"))


def test_weights_are_tested_on_archives(tars):
    trained = open_images(tars, **AUTO)
    assert names_of(opened_again(tars, trained.facts(), **AUTO), "test") == names_of(trained, "test")


def test_numbers_beside_names_are_refused_instead_of_matched_by_place(folder, tars, tmp_path):
    numbers = write_tars(folder, tmp_path / "json", "json")
    for path in numbers.glob("val-*.tar"):
        shutil.copy(path, tars / path.name)
    with pytest.raises(DataError, match="has numbers for labels, and .* has names for its classes, such as n01"):
        open_images(tars, **AUTO)


def test_a_label_that_is_no_class_number_costs_no_memory(folder, tars):
    with tarfile.open(tars / "train-000000.tar", "w") as archive:
        add(archive, "a.jpg", encoded(picture(0)))
        add(archive, "a.cls", b"1000000000000")
    (tars / "train-000001.tar").unlink()
    with pytest.raises(DataError, match="has label 1000000000000, and 1 images"):
        open_images(tars, **AUTO)


@pytest.mark.parametrize(
    "members, message",
    [
        ({"a.jpg": b"x"}, "sample a has jpg and no label"),
        ({"a.jpg": b"x", "a.cls": b"-1"}, "label -1; class numbers start at 0"),
        ({"a.txt": b"x"}, "hold no image"),
        ({"a.jpg": b"x", "a.cls": b"0", "b.jpg": b"x", "b.cls": b"cat"}, "numbers in some samples and names in others"),
    ],
)
def test_archives_of_another_form_are_described(tars, members, message):
    (tars / "val-000001.tar").unlink()
    with tarfile.open(tars / "val-000000.tar", "w") as archive:
        for name, data in members.items():
            add(archive, name, data)
    with pytest.raises(DataError, match=message):
        open_images(tars, **AUTO)


def test_an_archive_that_was_cut_off_is_named(tars):
    path = tars / "val-000001.tar"
    for size in (3400, 2000, 1536, 700):  # within a header, within an image, between them
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(DataError, match=rf"{path} cannot be read as a WebDataset archive"):
            open_images(tars, **AUTO)


def test_without_webdataset_the_error_says_how_to_get_it(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "webdataset", None)
    root = write_tars(folder, tmp_path / "tars")
    with pytest.raises(ImportError, match="pip install webdataset"):
        open_images(root, **AUTO)
