"""What stops a run on images, and with which words; images of every kind of pixel."""

import io
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from datamodules.decoding import decode
from datamodules.errors import DataError
from datamodules.image_folder import ImageFolder
from datamodules.imagenet1k import ImageNet1K
from datamodules.undecodable import check_images
from tests.datamodules.small_images import KEYWORDS, SETTINGS, batches, encoded, names_of, open_images, write_images


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "copy"))


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
        ("{", "is no JSON"),
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
    with pytest.raises(DataError, match=rf"{BROKEN} cannot be read: No such file"):
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
    monkeypatch.setattr("datamodules.undecodable.check_images", lambda source: pytest.fail("checked again"))
    assert open_images(folder, corrupt="skip").facts()["skipped"]["test"] == 1
    monkeypatch.undo()
    (folder / "val" / BROKEN).write_bytes(whole)
    assert open_images(folder, corrupt="skip").facts()["skipped"]["test"] == 0


def test_a_class_of_which_nothing_is_left_is_named(folder):
    for path in (folder / "train/n02").iterdir():
        cut(path)
    with pytest.raises(DataError, match=r"train: no usable training image of class n02"):
        open_images(folder, corrupt="skip")


# Kinds of pixels


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def rgb(image: Image.Image, form: str, **options) -> np.ndarray:
    decoded = decode(encoded(image, form, **options), "image")
    assert decoded.mode == "RGB"
    return np.asarray(decoded)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_cut(form):
    deep = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    expected = np.array([[round(int(value) * 255 / 65535) for value in row] for row in deep])
    found = rgb(Image.fromarray(deep), form)
    assert (found == expected[..., None]).all() and len(np.unique(found)) == 256


def test_sixteen_bit_grey_as_older_pil_opens_it():
    """Mode I: whole numbers of 32 bits, of which a 16-bit PNG uses 0..65535."""
    from datamodules.decoding import to_rgb

    found = np.asarray(to_rgb(Image.fromarray(np.array([[0, 257, 65535]], dtype=np.int32)), "old"))
    assert found[0].tolist() == [[0, 0, 0], [1, 1, 1], [255, 255, 255]]
    for values, message in (([[0, 70000]], "from 0 to 70000"), ([[-1, 5]], "from -1 to 5")):
        with pytest.raises(DataError, match=rf"wide holds values {message}"):
            to_rgb(Image.fromarray(np.array(values, dtype=np.int32)), "wide")


def test_grey_becomes_three_equal_channels():
    assert (rgb(Image.fromarray(RAMP), "PNG") == RAMP[..., None]).all()
    assert (rgb(Image.fromarray(RAMP > 99), "PNG") == ((RAMP > 99) * 255)[..., None]).all()


def test_a_palette_gives_its_colours():
    image = Image.fromarray(RAMP % 3).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 1, 2, 3])
    colours = np.array([[255, 0, 0], [0, 255, 0], [1, 2, 3]])
    assert (rgb(image, "PNG") == colours[RAMP % 3]).all()
    assert (rgb(image, "GIF") == colours[RAMP % 3]).all()


def test_cmyk_is_ink_on_white():
    """R = 255 (1 - C)(1 - K), within JPEG's loss."""
    inks = {(0, 0, 0, 0): (255, 255, 255), (255, 0, 0, 0): (0, 255, 255), (0, 0, 255, 0): (255, 255, 0),
            (0, 0, 0, 255): (0, 0, 0), (0, 255, 0, 128): (127, 0, 127)}  # fmt: skip
    for ink, colour in inks.items():
        found = rgb(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95).astype(int)
        assert np.abs(found - colour).max() <= 4, ink


def test_transparency_is_laid_over_white():
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 0], pixels[0, :, 3] = 200, (255, 0, 51)
    white = rgb(Image.fromarray(pixels), "PNG")[0].tolist()
    assert white[0] == [200, 0, 0] and white[1] == [255, 255, 255]
    assert np.abs(np.array(white[2]) - [0.2 * 200 + 0.8 * 255, 0.8 * 255, 0.8 * 255]).max() <= 1
    grey = np.array([[[10, 255], [10, 0]]], np.uint8)
    assert rgb(Image.fromarray(grey, "LA"), "PNG")[0].tolist() == [[10, 10, 10], [255, 255, 255]]


def test_a_transparent_palette_entry_is_white():
    image = Image.fromarray(RAMP % 2).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    found = rgb(image, "PNG", transparency=1)
    assert (found == np.where((RAMP % 2)[..., None], 255, [10, 20, 30])).all()


def test_a_sixteen_bit_image_through_the_whole_datamodule(folder):
    deep = np.full((16, 16), 32768, np.uint16)
    file = io.BytesIO()
    Image.fromarray(deep).save(file, "PNG")
    (folder / "val/n01/zz.png").write_bytes(file.getvalue())
    data = open_images(folder, mean=[0.0] * 3, std=[1.0] * 3)
    index = names_of(data, "test").index("n01/zz.png")
    assert data.pictures["test"][index]["image"].unique().tolist() == pytest.approx([128 / 255])


def test_floating_point_pixels_are_refused():
    with pytest.raises(DataError, match="image is a floating-point image"):
        decode(encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "image")


# Options


@pytest.mark.parametrize(
    "change, message",
    [
        ({"fraction": 0.0}, r"data\.fraction=0\.0 must be more than 0 and at most 1"),
        ({"fraction": 1.01}, r"data\.fraction=1\.01 must be"),
        ({"fraction": float("nan")}, r"data\.fraction=nan must be"),
        ({"crop_pct": 1.5}, r"data\.crop_pct=1\.5 must be"),
        ({"batch_size": 0}, r"data\.batch_size=0 is too small; the least is 1"),
        ({"num_workers": -1}, r"data\.num_workers=-1 is too small; the least is 0"),
        ({"val_split": -1}, r"data\.val_split=-1: a number of images from 0 on"),
        ({"val_split": "train"}, r"data\.val_split='train' is data\.train"),
        ({"test": "train"}, r"data\.train and data\.test are both 'train'"),
        ({"corrupt": "skipp"}, r"data\.corrupt='skipp' is unknown, allowed: refuse, skip\. Did you mean skip\?"),
        ({"format": "litdata"}, r"data\.format='litdata' is unknown, allowed: folder, parquet"),
        ({"augment": "shfit"}, "Did you mean shift"),
        ({"interpolation": "cubic"}, r"data\.interpolation='cubic' is unknown.*Did you mean bicubic"),
        ({"remode": "noise"}, r"data\.remode='noise' is unknown, allowed: const, rand, pixel"),
        ({"hflip": 1.1}, r"data\.hflip=1\.1 is a probability"),
        ({"reprob": -0.1}, r"data\.reprob=-0\.1 is a probability"),
        ({"mean": [0.5]}, r"data\.mean=\[0\.5\]: three numbers"),
        ({"std": [0.5, 0.0, 0.5]}, r"data\.std=.*each more than 0"),
        ({"scale": [0.5, 0.1]}, r"data\.scale=\[0\.5, 0\.1\]: the least and the most"),
        ({"ratio": [1.0]}, r"data\.ratio=\[1\.0\]: the least and the most"),
        ({"color_jitter": -1.0}, r"data\.color_jitter=-1\.0"),
        ({"shift": 2}, r"data\.shift=2 does nothing with data\.augment=none"),
        ({"in_memory": "yes"}, r"data\.in_memory='yes' is unknown"),
        ({"in_memory": True, "augment": "timm"}, r"data\.in_memory=true holds transformed pixels"),
        ({"mini": SETTINGS, "image_size": 32, "format": "parquet"}, "generated data .* are an image folder"),
        ({"mini": SETTINGS}, r"data\.image_size=16, but data\.mini\.image_size=32"),
        ({"mini": {**SETTINGS, "grdi": 2}}, "unknown setting 'grdi'. Did you mean 'grid'"),
    ],
)
def test_impossible_options_are_refused(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        ImageNet1K(**{**KEYWORDS, "root": str(tmp_path), **change})


def test_timms_own_refusal_is_passed_on(folder):
    with pytest.raises(DataError, match=r"timm refuses the augmentation .*auto_augment='randd'"):
        open_images(folder, augment="timm", auto_augment="randd")


def test_the_shipped_yaml_names_every_keyword_and_no_other():
    import inspect

    from omegaconf import OmegaConf

    shipped = OmegaConf.load(Path(__file__).resolve().parents[2] / "configs/data/imagenet1k.yaml")
    wanted = list(inspect.signature(ImageNet1K.__init__).parameters)[1:]
    assert sorted(set(shipped) - {"_target_"}) == sorted(wanted)
    keywords = OmegaConf.to_container(shipped, resolve=False)
    keywords.pop("_target_")
    data = ImageNet1K(**{**keywords, "root": "data"})
    assert json.loads(json.dumps([data.mean, data.scale, data.auto_augment])) == [
        [0.485, 0.456, 0.406],
        [0.08, 1.0],
        "rand-m9-mstd0.5-inc1",
    ]
