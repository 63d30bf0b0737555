"""The generated clips: same seed, same bytes; what the captions say is what is seen; nothing is shared by splits."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.fft import dctn

from datamodules.errors import DataError
from datamodules.mini.digits import WORDS, digit_images, enlargement
from datamodules.video_captioning.mini import mp4
from datamodules.video_captioning.mini.generator import MiniSettings, write_mini
from datamodules.video_captioning.mini.moving_digits import make_clip, way
from datamodules.video_captioning.mini.patches import GRID, LUMA, SLOTS, Patches, patches_scale
from datamodules.video_captioning.mini.wording import COLOURS, JOINS, MOTIONS, SUBJECTS, Event, Scene, describe, plainly
from datamodules.video_captioning.video import read_video
from tests.datamodules.video_captioning.small import MINI, batches, open_set

ROOT = Path(__file__).resolve().parents[3]
DIM = {"dim": 229}


def generate(root: Path, seed: int = 0, **changes) -> Path:
    return write_mini(root, MiniSettings(**{**MINI, **changes}), seed=seed)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    return generate(tmp_path_factory.mktemp("mini"))


def test_same_seed_same_bytes_other_seed_other_bytes(pristine, tmp_path):
    """In a process of its own with other numbers of threads and another hash seed."""
    code = (
        "import sys; from pathlib import Path; from datamodules.video_captioning.mini import generator as mini; "
        f"print(mini.write_mini(Path(sys.argv[1]), mini.MiniSettings(**{MINI!r}), seed=0))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, env=environment
    )
    assert hashes(Path(done.stdout.strip())) == hashes(pristine)
    other = hashes(generate(tmp_path, seed=1))
    assert len([name for name in other if name.endswith(".mp4")]) == 19
    same = {name for name, value in hashes(pristine).items() if other[name] == value}
    assert same == {"features.packed.json"}  # names and shapes


def test_an_existing_set_is_used_again_and_other_settings_get_another_folder(pristine):
    before = {path: path.stat().st_mtime_ns for path in pristine.rglob("*")}
    assert generate(pristine.parent) == pristine
    assert {path: path.stat().st_mtime_ns for path in pristine.rglob("*")} == before
    assert generate(pristine.parent, noise=9) != pristine


def test_the_json_is_of_msrvtts_kind(pristine):
    content = json.loads((pristine / "MSRVTT_data.json").read_text())
    assert [video["split"] for video in content["videos"]] == ["train"] * 12 + ["validate"] * 2 + ["test"] * 5
    assert all(video["video_id"] == f"video{i}" == f"video{video['id']}" for i, video in enumerate(content["videos"]))
    assert [sentence["sen_id"] for sentence in content["sentences"]] == list(range(19 * 5))


@pytest.mark.parametrize(
    "source, key, shape", [("video", "frames", (12, 3, 64, 64)), ("features", "features", (32, 229))]
)
def test_the_datamodule_reads_what_was_written(tmp_path, pristine, source, key, shape):
    data = open_set(pristine.parent, source=source, features=DIM, frames=12, image_size=64, mini=MINI)
    assert data.folder == pristine
    counts = {split: sum(len(b["video"]) for b in batches(data, split)) for split in ("train", "val", "test")}
    assert counts == {"train": 60, "val": 2, "test": 5}
    assert batches(data, "test")[0][key].shape == (2, *shape)
    assert data.facts()["grid"] == (32 if source == "features" else None)


def test_features_are_those_of_the_decoded_files(pristine):
    data = open_set(pristine.parent, source="features", features=DIM, frames=12, image_size=64, mini=MINI)
    train = [read_video(pristine / f"videos/video{i}.mp4", 12) for i in range(12)]
    patches = Patches(12, 64, patches_scale(train))
    for batch in batches(data, "test"):
        for grid, name in zip(batch["features"], batch["video"], strict=True):
            expected = patches(read_video(pristine / f"videos/{name}.mp4", 12)).astype(np.float16)
            assert np.array_equal(grid, expected.astype(np.float32))


@pytest.mark.parametrize("frames, size", [(12, 64), (8, 32), (16, 48)])
def test_patches_are_cosine_transforms_of_overlapping_windows(frames, size):
    """Against scipy's transform of one window at a time."""
    clip = np.random.default_rng(0).integers(0, 256, (frames, size, size, 3)).astype(np.uint8)
    tokens = Patches(frames, size)(clip)
    grey = clip @ np.array([0.299, 0.587, 0.114]) / 255 - 0.5
    small = grey.reshape(frames, size // 2, 2, size // 2, 2).mean((2, 4))
    period, step = frames // SLOTS, size // 2 // GRID
    margin = (16 - step) // 2
    wide = np.pad(small, ((0, 0), (margin, 16), (margin, 16)), mode="edge")
    assert len(tokens) == SLOTS * GRID * GRID
    for index, token in enumerate(tokens):
        slot, (row, column) = index // GRID**2, divmod(index % GRID**2, GRID)
        window = wide[slot * period :][:period, row * step :, column * step :][:, :16, :16]
        waves = dctn(window, norm="ortho")
        kept = [
            waves[t, y, x] for t in range(period) for y in range(16) for x in range(16) if 2 * t + y + x <= LUMA
        ]  # fmt: skip
        assert np.allclose(token[: len(kept)], kept, atol=1e-5)


# What is seen


def test_no_handwriting_is_in_two_splits(tmp_path):
    """Every digit of a clip without noise and clutter is found in the images of its own split alone."""
    settings = MiniSettings(**{**MINI, "noise": 0, "clutter": 0, "pairs": 0.0})
    images = {split: digit_images(split, 0) for split in ("train", "test")}
    for seed in range(8):
        clip = make_clip(settings, images["test"], np.random.default_rng(seed))
        sprite = clip.sprites[0]
        top, left = sprite.path[0]
        box = clip.frames[0, top : top + sprite.side, left : left + sprite.side].astype(float).sum(2)
        box = (box - box.min()) / np.ptp(box)
        enlarge = enlargement(sprite.side)
        nearest = {
            split: np.abs(np.clip(1.5 * enlarge @ digits @ enlarge.T, 0, 1) - box).mean((1, 2))
            for split, (digits, _) in images.items()
        }
        assert nearest["test"].min() < 0.01 < nearest["train"].min()
        assert images["test"][1][nearest["test"].argmin()] == clip.scene.events[0].digit


@pytest.mark.parametrize("frames", [4, 6, 16])
@pytest.mark.parametrize("motion", MOTIONS)
def test_ways_move_as_they_are_called_and_stay_inside(motion, frames):
    for seed in range(50):
        path = way(motion, frames, 46, np.random.default_rng(seed))
        assert path.shape == (frames, 2) and path.min() >= 0 and path.max() <= 46
        down, across = (path[-1] - path[0]).tolist()
        spread = np.ptp(path, axis=0)
        if motion in ("left", "right"):
            assert spread[0] == 0 and across * (1 if motion == "right" else -1) >= 18
        elif motion in ("up", "down"):
            assert spread[1] == 0 and down * (1 if motion == "down" else -1) >= 18
        elif motion == "circle":
            assert np.abs(path[-1] - path[0]).max() <= 1 and spread.min() >= 8
        else:
            still, moving = (1, 0) if motion == "bounce" else (0, 1)
            assert spread[still] == 0 and spread[moving] >= 4


def test_one_after_the_other_means_that_the_second_rests_until_the_first_is_done():
    images = digit_images("train", 0)
    settings = MiniSettings(**{**MINI, "pairs": 1.0})
    seen = set()
    for seed in range(40):
        clip = make_clip(settings, images, np.random.default_rng(seed))
        first, second = (np.abs(np.diff(sprite.path, axis=0)).sum(1) for sprite in clip.sprites)
        seen.add(clip.scene.relation)
        if clip.scene.relation == "then":
            assert not first[6:].any() and not second[:6].any() and first[:5].any() and second[6:].any()
        else:
            assert first[6:].any() and second[:5].any()
    assert seen == {"then", "while"}


def test_a_digit_has_the_colour_that_the_caption_says():
    settings = MiniSettings(**{**MINI, "noise": 0, "clutter": 0, "pairs": 0.0})
    images = digit_images("train", 0)
    for seed in range(30):
        clip = make_clip(settings, images, np.random.default_rng(seed))
        sprite = clip.sprites[0]
        top, left = sprite.path[3]
        box = clip.frames[3, top : top + sprite.side, left : left + sprite.side].reshape(-1, 3).astype(int)
        ink = box[box.sum(1).argmax()]
        nearest = min(COLOURS, key=lambda name: np.abs(ink - COLOURS[name]).sum())
        assert nearest == clip.scene.events[0].colour


# What is said


def test_every_wording_of_a_scene_says_all_of_it():
    scene = Scene("then", (Event(8, "red", "left"), Event(3, "blue", "circle")))
    assert plainly(scene) == "a red eight moves to the left and then a blue three moves in a circle"
    said = {describe(scene, np.random.default_rng(seed)) for seed in range(400)}
    assert len(said) > 100
    for text in said:
        assert {"eight", "red", "three", "blue", "left"} <= set(text.split()) and "circle" in text
        first = text.index("eight") < text.index("three")
        assert first != (" after " in text)
        assert "a eight" not in text


def test_wordings_of_different_motions_and_relations_share_no_phrase():
    phrases = [phrase for wordings in MOTIONS.values() for phrase in wordings]
    assert len(phrases) == len(set(phrases)) and not any(a != b and a in b for a in phrases for b in phrases)
    assert not set(JOINS["then"]) & set(JOINS["while"]) and len(SUBJECTS) == 3 and len(WORDS) == 10


@pytest.mark.slow
def test_the_oracle_reads_nearly_all_digits(tmp_path):
    folder = generate(tmp_path, train_videos=250, test_videos=50)
    said, scenes = (json.loads((folder / name).read_text()) for name in ("oracle.json", "scenes.json"))
    assert list(said) == [f"video{i}" for i in range(252, 302)]
    right = [
        plainly(
            Scene(
                scenes[name]["relation"],
                tuple(Event(e["digit"], e["colour"], e["motion"]) for e in scenes[name]["events"]),
            )
        )
        == text
        for name, text in said.items()
    ]
    assert 0.6 < np.mean(right) <= 1.0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train_videos": 0}, "train_videos=0, test_videos=5 and captions=5 must be at least 1"),
        ({"frames": 9}, "frames=9 must be at least 8 and a multiple of 2"),
        ({"frames": 4}, "frames=4 must be at least 8"),
        ({"size": 60}, "size=60 must be at least 32 and a multiple of 16"),
        ({"digits": 1}, r"digits=1 must be in 2\.\.10"),
        ({"min_side": 21}, "min_side=21 <= max_side=20 <= 32"),
        ({"max_side": 33}, "max_side=33 <= 32, half of size=64"),
        ({"pairs": 1.5}, r"pairs=1\.5 is a share"),
        ({"noise": 128}, r"noise=128 in 0\.\.127"),
        ({"noise": -1}, "noise=-1"),
    ],
)
def test_impossible_clips_are_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        generate(tmp_path, **change)
    assert not list(tmp_path.iterdir())


def test_a_pyav_without_an_encoder_is_said(tmp_path, monkeypatch):
    import av

    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    with pytest.raises(DataError, match="has no encoder for them \\(libx264\\)"):
        mp4.write_mp4(tmp_path / "a.mp4", np.zeros((2, 16, 16, 3), np.uint8), 8)
