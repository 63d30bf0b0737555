"""The generated images: same seed, same bytes; the framed digit is the class; nothing is shared between splits."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.errors import DataError
from datamodules.image_classification import Images
from datamodules.image_classification.mini.generator import MiniSettings, write_mini
from datamodules.mini.digits import WORDS, digit_images, enlargement
from tests.datamodules.image_classification.small import SETTINGS, batches

KEYWORDS = {
    "train": "train",
    "val_split": "val",
    "test": "test",
    "class_index": "classes.json",
    "image_size": 32,
    "crop_pct": 1.0,
    "mean": [0.0] * 3,
    "std": [1.0] * 3,
    "batch_size": 16,
    "eval_batch_size": 16,
    "augment": "none",
}


def generate(root: Path, seed: int = 0, **changes) -> Path:
    return write_mini(root, MiniSettings(**{**SETTINGS, **changes}), seed=seed)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def scenes(folder: Path) -> list[dict]:
    rows = list(csv.DictReader((folder / "scenes.csv").open()))
    return [{**row, **{key: int(row[key]) for key in ("label", "top", "left", "side")}} for row in rows]


def pixels_of(folder: Path, scene: dict) -> np.ndarray:
    return np.asarray(Image.open(folder / scene["split"] / scene["name"])).astype(int)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    return generate(tmp_path_factory.mktemp("mini"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    """Without noise."""
    return generate(tmp_path_factory.mktemp("clean"), noise=0.0)


def test_same_seed_same_bytes_other_seed_other_bytes(pristine, tmp_path):
    again, other = generate(tmp_path / "a"), generate(tmp_path / "b", seed=1)
    assert hashes(again) == hashes(pristine)
    images = [name for name in hashes(pristine) if name.endswith(".png")]
    assert len(images) == 60 + 20 + 30
    assert all(hashes(other)[name] != hashes(pristine)[name] for name in images)


def test_an_existing_set_is_used_again_and_other_settings_get_another_folder(pristine):
    before = {path: path.stat().st_mtime_ns for path in pristine.rglob("*")}
    assert generate(pristine.parent) == pristine
    assert {path: path.stat().st_mtime_ns for path in pristine.rglob("*")} == before
    assert generate(pristine.parent, noise=0.11) != pristine


def test_classes_are_equally_frequent_and_images_have_the_size_asked_for(pristine):
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        for digit in range(10):
            paths = list((pristine / split / f"d{digit}").glob("*.png"))
            assert len(paths) == count
            for path in paths:
                image = Image.open(path)
                assert (image.size, image.mode) == ((32, 32), "RGB")


def ring(pixels: np.ndarray, scene: dict, away: int) -> np.ndarray:
    """Pixels (n, 3) of the rectangle `away` pixels outside the digit's box."""
    top, left = scene["top"] - away, scene["left"] - away
    square = pixels[top : top + scene["side"] + 2 * away, left : left + scene["side"] + 2 * away]
    inside = np.zeros(square.shape[:2], bool)
    inside[1:-1, 1:-1] = True
    return square[~inside]


def test_the_frame_is_around_the_digit_alone_and_light(clean):
    for scene in scenes(clean):
        pixels = pixels_of(clean, scene)
        background = pixels[0, 0]
        frame = np.unique(ring(pixels, scene, 1), axis=0)
        assert len(frame) == 1 and ((frame[0] - background) / 255 >= 0.5 - 0.01).all()
        assert (ring(pixels, scene, 2) == background).all()
        # No other straight run of one light colour is as long as the side of a frame.
        box = (slice(scene["top"] - 1, scene["top"] + scene["side"] + 1),)
        box += (slice(scene["left"] - 1, scene["left"] + scene["side"] + 1),)
        others = pixels.copy()
        others[box] = background
        lit = (others != background).any(2)
        for row, colours in zip(lit, others, strict=True):
            same = (colours[1:] == colours[:-1]).all(1) & row[1:] & row[:-1]
            run = max((len(part) for part in "".join("x" if s else " " for s in same).split()), default=0)
            assert run + 1 < SETTINGS["min_side"] + 2


def test_the_framed_digit_is_the_label(clean):
    """Read by the nearest of the split's own digits, enlarged to the same side: no tolerance for another class."""
    handwriting = {split: digit_images(split, 0) for split in ("train", "val", "test")}
    for scene in scenes(clean):
        digits, labels = handwriting[scene["split"]]
        enlarge = enlargement(scene["side"])
        wanted = (enlarge @ digits @ enlarge.T).reshape(len(digits), -1)
        pixels = pixels_of(clean, scene).astype(float)
        top, left, side = scene["top"], scene["left"], scene["side"]
        box = (pixels[top : top + side, left : left + side] - pixels[0, 0]).mean(2).ravel()
        # The colour is unknown: compare directions.
        alike = (wanted @ box) / np.linalg.norm(wanted, axis=1) / np.linalg.norm(box)
        assert alike.max() > 0.999 and labels[alike.argmax()] == scene["label"]
        assert scene["name"].startswith(f"d{scene['label']}/")


def test_every_cell_holds_one_digit_and_the_sides_vary(clean):
    sides, places = set(), set()
    for scene in scenes(clean):
        pixels = pixels_of(clean, scene)
        lit = (pixels != pixels[0, 0]).any(2)
        assert lit.reshape(2, 16, 2, 16).any(axis=(1, 3)).all()
        sides.add(scene["side"])
        places.add((scene["top"] // 16, scene["left"] // 16))
        assert 9 <= scene["side"] <= 12
    assert sides == {9, 10, 11, 12} and len(places) == 4


def test_fewer_digits_leave_cells_empty(tmp_path):
    folder = generate(tmp_path, noise=0.0, digits=2, grid=3, image_size=48)
    for scene in scenes(folder):
        pixels = pixels_of(folder, scene)
        lit = (pixels != pixels[0, 0]).any(2).reshape(3, 16, 3, 16).any(axis=(1, 3))
        assert lit.sum() == 2


@pytest.mark.parametrize("side", [1, 5, 8, 11, 16, 23])
def test_enlargement_is_linear_interpolation(side):
    """Equal to PIL's bilinear resize from side 8 on; below 8 PIL blurs, and only the rows' sum is checked: 1."""
    weights = enlargement(side)
    assert weights.shape == (side, 8) and np.allclose(weights.sum(1), 1)
    if side >= 8:
        column = np.random.default_rng(0).random((8, 1)).astype(np.float32)
        expected = np.asarray(Image.fromarray(column).resize((1, side), Image.Resampling.BILINEAR))
        assert np.allclose(weights @ column, expected, atol=1e-5)


def open_mini(root: Path, **changes) -> Images:
    mini = {**SETTINGS, **changes.pop("mini", {})}
    data = Images(**{**KEYWORDS, "root": str(root), "mini": mini, **changes})
    data.prepare_data()
    data.setup()
    return data


def test_the_datamodule_reads_what_was_written(tmp_path):
    data = open_mini(tmp_path)
    facts = data.facts()
    assert facts["classes"] == 10 and facts["train_counts"] == [6] * 10
    assert facts["class_names"] == list(WORDS)
    seen = 0
    for batch in batches(data, "test"):
        for image, label, name in zip(batch["image"], batch["label"], batch["name"], strict=True):
            stored = np.asarray(Image.open(data.folder / "test" / name))
            assert torch.equal((image * 255).round().to(torch.uint8), torch.from_numpy(stored.copy()).permute(2, 0, 1))
            assert name.startswith(f"d{label}/")
            seen += 1
    assert seen == 30


def test_without_a_validation_split_images_can_be_held_out(tmp_path):
    data = open_mini(tmp_path, mini={"val_images": 0}, val_split=20)
    assert data.facts()["train_counts"] == [4] * 10 and len(data.pictures["val"]) == 20
    assert not (data.folder / "val").exists()


def test_the_oracle_reads_nearly_all_and_the_linear_floor_nearly_nothing(tmp_path):
    data = open_mini(tmp_path, mini={"train_images": 800, "test_images": 200})
    labels = {
        name: int(label) for b in batches(data, "test") for name, label in zip(b["name"], b["label"], strict=True)
    }
    oracle = data.oracle()
    assert set(oracle) == set(labels) and set(oracle.values()) <= set(range(10))
    assert 0.9 < np.mean([oracle[name] == label for name, label in labels.items()]) <= 1.0
    state = torch.get_rng_state()
    floor = data.linear_floor()
    assert 0.02 < floor < 0.3 and floor == data.linear_floor()
    assert torch.equal(state, torch.get_rng_state())


def test_the_linear_floor_learns_what_is_linear(tmp_path):
    """One large digit per image: a linear model reads some of it, far above chance, and more of it with more data."""
    easy = {"digits": 1, "grid": 1, "image_size": 16, "min_side": 12, "max_side": 12, "contrast": 0.9, "noise": 0.0}
    options = {"mini": {**easy, "train_images": 1000, "test_images": 200}, "image_size": 16}
    whole, few = (
        open_mini(tmp_path, **options).linear_floor(),
        open_mini(tmp_path, fraction=0.02, **options).linear_floor(),
    )
    assert whole > 0.85 and whole > few


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train_images": 9}, "train_images=9 and test_images=30 must be at least 10"),
        ({"val_images": 3}, "val_images=3 must be 0 or at least 10"),
        ({"grid": 0}, "grid=0"),
        ({"digits": 5}, r"digits=5 must be in 1\.\.4"),
        ({"digits": 11, "grid": 4, "image_size": 64}, r"digits=11 must be in 1\.\.10"),
        ({"min_side": 13}, "min_side=13 <= max_side=12 <= 12"),
        ({"max_side": 13}, "max_side=13 <= 12, the room in a cell of image_size=32, grid=2"),
        ({"contrast": 1.5}, r"contrast=1\.5 must be in 0\.\.1"),
        ({"noise": -0.1}, r"noise=-0\.1"),
        ({"noise": float("nan")}, "noise=nan"),
    ],
)
def test_impossible_images_are_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        generate(tmp_path, **change)
    assert not list(tmp_path.iterdir())
