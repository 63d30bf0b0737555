"""A test set that is the training set, under whatever name, is refused."""

import logging
import shutil

import pytest

from datamodules.errors import DataError
from datamodules.image_classification import overlap
from tests.datamodules.image_classification.small import encoded, open_images, picture


@pytest.mark.parametrize("name", ["train/../train", "./train/", "linked"])
@pytest.mark.parametrize("setting", ["test", "val_split"])
def test_two_names_of_one_folder_are_seen(folder, name, setting):
    (folder / "linked").symlink_to(folder / "train", target_is_directory=True)
    with pytest.raises(DataError, match=r"tested on what was trained on|is data\.train"):
        open_images(folder, **{setting: name})
    assert len(open_images(folder, **{setting: name}, overlap="allow").pictures["train"])


def test_linked_class_folders_are_named(folder):
    (folder / "other").mkdir()
    for name in ("n01", "n02"):
        (folder / "other" / name).symlink_to(folder / "train" / name, target_is_directory=True)
    with pytest.raises(DataError, match=r"data\.test matches class folders of data\.train: .*other/n01.*overlap=allow"):
        open_images(folder, test="other")


def test_copies_under_other_names_are_found_by_their_content(folder):
    shutil.copytree(folder / "train", folder / "copy")
    for number, path in enumerate(sorted((folder / "copy").rglob("*.JPEG"))):
        path.rename(path.with_name(f"another_{number}.jpg"))
    with pytest.raises(
        DataError, match=r"25 of the 25 images of data\.test .*copy/.*which is .*train/n0.*overlap=allow"
    ):
        open_images(folder, test="copy")
    assert len(open_images(folder, test="copy", overlap="allow").pictures["test"]) == 25


def test_one_image_of_many_is_a_warning(folder, caplog):
    for number in range(150):
        (folder / "val/n01" / f"more_{number}.png").write_bytes(encoded(picture(1000 + number), "PNG"))
    shutil.copy(folder / "train/n01/00.JPEG", folder / "val/n01/twice.JPEG")
    with caplog.at_level(logging.WARNING):
        open_images(folder)
    assert "1 of the 158 images of data.test that were compared are training images, too" in caplog.text


def test_of_very_many_images_those_of_one_name_are_compared(folder, monkeypatch):
    monkeypatch.setattr(overlap, "SMALL", 10)
    shutil.copytree(folder / "train", folder / "copy")
    with pytest.raises(DataError, match=r"data\.test that were compared are training images"):
        open_images(folder, test="copy")
    open_images(folder)


def test_validation_images_that_are_test_images_are_warned_of(folder, caplog):
    shutil.copytree(folder / "val", folder / "held")
    with caplog.at_level(logging.WARNING):
        open_images(folder, val_split="held")
    assert "7 of the 7 validation images that were compared are test images, too" in caplog.text


@pytest.mark.parametrize("copied", [False, True])
def test_copies_among_images_that_are_shared_out_are_warned_of(folder, caplog, copied):
    if copied:
        for path in sorted((folder / "train").rglob("*.JPEG")):
            shutil.copy(path, path.with_name(f"copy_of_{path.name}"))
    with caplog.at_level(logging.WARNING):
        open_images(folder, test=0.2, val_split=0.2)
        said = [line for line in caplog.messages if "have a copy in training" in line]
        open_images(folder, test=0.2, val_split=0.2, overlap="allow")
    assert len(said) == (2 if copied else 0) == sum("have a copy in training" in line for line in caplog.messages)
    assert all(" held out for " in line and "JPEG, which is " in line for line in said)
