"""What stops a run on images, and with which words; images of every kind of pixel."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from datamodules.errors import DataError
from datamodules.image_classification.folder import ImageFolder
from datamodules.image_classification.undecodable import check_images
from datamodules.pixels import decode
from tests.datamodules.image_classification.small import batches, encoded, names_of, open_images

# Missing and contradicting folders


def test_missing_folders_are_named_with_the_way_out(folder):
    shutil.rmtree(folder / "val")
    with pytest.raises(DataError) as stop:
        open_images(folder, class_index="index.json")
    message = str(stop.value)
    assert "missing val, index.json" in message and str(folder) in message
    assert "docs/datasets.md#imagenet-1k" in message and "scale=mini" in message


def test_a_missing_validation_folder(folder):
    with pytest.raises(DataError, match="missing held "):
        open_images(folder, val_split="held")


def test_the_flat_validation_archive_is_recognised(folder):
    for number, path in enumerate(sorted((folder / "val").rglob("*.JPEG"))):
        path.rename(folder / "val" / f"ILSVRC2012_val_{number:08d}.JPEG")
    for name in ("n01", "n02", "n03"):
        (folder / "val" / name).rmdir()
    with pytest.raises(DataError, match=r"val holds images but no class folders\. The official validation archive"):
        open_images(folder)


def test_a_folder_without_anything(folder):
    shutil.rmtree(folder / "val")
    (folder / "val").mkdir()
    with pytest.raises(DataError, match="val holds no class folders"):
        open_images(folder)


def test_empty_class_folders_are_named(folder):
    for name in ("n04", "n05"):
        (folder / "train" / name).mkdir()
    (folder / "train/n05/readme.txt").write_text("nothing yet")
    with pytest.raises(DataError, match=r"no image in n04, n05 \(2 of 5 class folders\)"):
        open_images(folder)


@pytest.mark.parametrize("link", ["n02/again", "n04"])
def test_a_folder_that_a_link_shows_twice_is_named(folder, link):
    """Into itself, its images would count forty times; as another class, under two labels."""
    (folder / "train" / link).symlink_to(folder / "train" / "n02", target_is_directory=True)
    with pytest.raises(DataError, match=rf"{link} is the same folder as n02: one is a link"):
        open_images(folder)


def test_class_folders_may_be_links(folder, tmp_path):
    expected = names_of(open_images(folder), "train")
    shutil.move(folder / "train" / "n02", tmp_path / "elsewhere")
    (folder / "train" / "n02").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert names_of(open_images(folder), "train") == expected


def test_a_link_to_nothing_is_named_or_skipped(folder):
    (folder / "train/n02/gone.png").symlink_to(folder / "nowhere.png")
    with pytest.raises(DataError, match=r"n02/gone\.png cannot be read \(No such file"):
        open_images(folder, in_memory=True)
    data = open_images(folder, corrupt="skip")
    assert data.facts()["skipped"]["train"] == 1
    assert sum(data.facts()["train_counts"]) == 25 - 4


def test_one_class_is_no_choice(folder):
    """E.g. data.root is a folder too high."""
    (folder / "all").mkdir()
    (folder / "train").rename(folder / "all" / "train")
    (folder / "val").rename(folder / "val_")
    (folder / "val").mkdir()
    (folder / "val_").rename(folder / "val" / "train")
    with pytest.raises(DataError, match="all has one class, train"):
        open_images(folder, train="all")


@pytest.mark.parametrize("name", ["index.json", "synsets.txt"])
def test_a_byte_order_mark_before_a_class_index_is_no_part_of_it(folder, name):
    text = (
        '{"0": ["n01", "a"], "1": ["n02", "b"], "2": ["n03", "c"]}' if name == "index.json" else "n01 a\nn02 b\nn03 c"
    )
    (folder / name).write_text(text, encoding="utf-8-sig")
    assert open_images(folder, class_index=name).facts()["class_names"] == ["a", "b", "c"]


@pytest.mark.parametrize("split", ["val", "held"])
def test_a_class_that_training_does_not_have_is_named(folder, split):
    shutil.copytree(folder / "val", folder / "held")
    (folder / split / "n03").rename(folder / split / "n033")
    with pytest.raises(DataError, match=rf"{split} has n033, .*train has no such class\. Did you mean n03 by n033"):
        open_images(folder, val_split="held")


def index_file(folder: Path, text: str, name: str = "index.json") -> str:
    (folder / name).write_text(text)
    return name


def test_a_class_index_that_lacks_a_folder(folder):
    name = index_file(folder, '{"0": ["n01", "a"], "1": ["n02", "b"]}')
    with pytest.raises(DataError, match=r"train has n03, of which class index .*index\.json has no such class"):
        open_images(folder, class_index=name)


def test_a_class_index_with_a_class_that_has_no_folder(folder):
    name = index_file(folder, "n01 a\nn02 b\nn03 c\nn04 d\n", "synsets.txt")
    with pytest.raises(DataError, match=r"lists n04, of which .*train has no folder \(1 of 4 classes\)"):
        open_images(folder, class_index=name)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "is not JSON"),
        ("{}", "names no class"),
        ('["n01"]', "holds a list; expected"),
        ('{"0": ["n01", "a"], "2": ["n02", "b"]}', r"2 classes, but without the number\(s\) 1 and with 2; expected"),
        ('{"0": ["n01", "a"], "1": "n02"}', 'class 1 is "n02"; expected'),
        ('{"0": ["n01", "a"], "1": ["n01", "b"]}', "n01 more than once"),
    ],
)
def test_a_malformed_class_index_is_described(folder, text, message):
    with pytest.raises(DataError, match=message):
        open_images(folder, class_index=index_file(folder, text))


def test_a_class_index_that_is_no_text(folder):
    (folder / "index.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"class index .*index\.txt cannot be read"):
        open_images(folder, class_index="index.txt")


def test_more_validation_images_than_can_be_spared(folder):
    with pytest.raises(DataError, match=r"data\.val_split=23: at most 22 of the 25 training images"):
        open_images(folder, val_split=23)
    assert open_images(folder, val_split=22).facts()["train_counts"] == [1, 1, 1]


# Damaged images


def cut(path: Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


BROKEN = "n02/00.JPEG"


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_damaged_image_stops_the_run_and_is_named(folder, damage, in_memory):
    path = folder / "val" / BROKEN
    {"cut": cut, "empty": lambda p: p.write_bytes(b""), "text": lambda p: p.write_text("not found")}[damage](path)
    with pytest.raises(DataError, match=rf"{path} cannot be decoded as an image \(\d+ bytes\)"):
        batches(open_images(folder, in_memory=in_memory), "test")


def test_a_worker_names_a_damaged_image_too(folder):
    cut(folder / "val" / BROKEN)
    loader = open_images(folder, in_memory=False, num_workers=2).test_dataloader()
    message = None
    try:
        list(loader)
    except DataError as error:
        message = str(error)
    loader._iterator._shutdown_workers()  # left to the garbage collector, torch waits 5 s for each
    assert f"{folder / 'val' / BROKEN} cannot be decoded as an image" in message


def test_a_truncated_image_is_named_even_where_a_library_tolerates_them(folder, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    cut(folder / "val" / BROKEN)
    with pytest.raises(DataError, match=BROKEN):
        open_images(folder, in_memory=True)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF"])
def test_truncated_files_of_every_form_are_refused(form):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    data = encoded(noise, form)
    assert decode(data, "whole").size == (40, 40)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(DataError, match="part cannot be decoded"):
            decode(data[: int(share * len(data))], "part")


def test_a_vanished_file_is_named(folder):
    data = open_images(folder, in_memory=False)
    (folder / "val" / BROKEN).unlink()
    with pytest.raises(DataError, match=rf"{BROKEN} cannot be read \(No such file"):
        batches(data, "test")


def test_check_images_lists_exactly_the_undecodable_files(folder):
    cut(folder / "train/n01/03.JPEG")
    (folder / "train/n03/12.JPEG").write_bytes(b"")
    found = check_images(ImageFolder(folder / "train"), threads=3)
    assert list(found) == ["n01/03.JPEG", "n03/12.JPEG"]
    assert all("cannot be decoded" in told and name in told for name, told in found.items())
    assert check_images(ImageFolder(folder / "val")) == {}


def test_skip_leaves_out_counts_and_names(folder, caplog):
    cut(folder / "train/n01/03.JPEG")
    cut(folder / "val" / BROKEN)
    with caplog.at_level(logging.WARNING):
        data = open_images(folder, corrupt="skip", val_split=0)
    assert "train: left out 1 images that cannot be decoded: n01/03.JPEG" in caplog.text
    assert f"val: left out 1 images that cannot be decoded: {BROKEN}" in caplog.text
    assert data.facts()["skipped"] == {"train": 1, "val": 0, "test": 1} and data.facts()["train_counts"] == [6, 5, 13]
    assert "n01/03.JPEG" not in names_of(data, "train") and len(batches(data, "train")) == 6
    assert BROKEN not in names_of(data, "test") and len(data.pictures["test"]) == 6


def test_skip_moves_no_other_image_between_the_splits(folder):
    before = names_of(open_images(folder, val_split=0, fraction=0.5), "train")
    every = names_of(open_images(folder, val_split=0), "train")
    victim = next(name for name in every if name not in before and name.startswith("n03"))
    cut(folder / "train" / victim)
    after = names_of(open_images(folder, val_split=0, fraction=0.5, corrupt="skip"), "train")
    assert len(before) == 4 + 3 + 7 and len(after) == 4 + 3 + 6  # half of 12 instead of half of 13
    assert set(after) < set(before)


def test_the_list_of_undecodable_images_is_kept_until_a_file_changes(folder, monkeypatch):
    whole = (folder / "val" / BROKEN).read_bytes()
    cut(folder / "val" / BROKEN)
    assert open_images(folder, corrupt="skip").facts()["skipped"]["test"] == 1
    monkeypatch.setattr(
        "datamodules.image_classification.undecodable.check_images", lambda source: pytest.fail("checked again")
    )
    assert open_images(folder, corrupt="skip").facts()["skipped"]["test"] == 1
    monkeypatch.undo()
    (folder / "val" / BROKEN).write_bytes(whole)
    assert open_images(folder, corrupt="skip").facts()["skipped"]["test"] == 0


def test_a_class_of_which_nothing_is_left_is_named(folder):
    for path in (folder / "train/n02").iterdir():
        cut(path)
    with pytest.raises(DataError, match=r"train: no usable training image of class n02"):
        open_images(folder, corrupt="skip")
