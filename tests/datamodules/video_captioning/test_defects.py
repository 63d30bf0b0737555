"""Missing and damaged videos, frames and features; options that are impossible."""

import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.errors import DataError
from datamodules.video_captioning import Captions, undecodable
from datamodules.video_captioning.captions import Clip
from datamodules.video_captioning.sources import VideoFiles
from datamodules.video_captioning.undecodable import check_clips
from datamodules.video_captioning.video import read_video
from tests.datamodules.test_video_files import turn
from tests.datamodules.video_captioning.small import (
    KEYWORDS,
    batches,
    footage,
    no_frames,
    open_set,
    write_set,
    write_sound,
    write_video,
)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """15 videos as files, as frames and as features; do not write here."""
    root = write_set(tmp_path_factory.mktemp("videos"))
    for i in range(15):
        folder = root / "frames" / f"video{i}"
        folder.mkdir(parents=True)
        for number, frame in enumerate(footage(i, frames=5), start=1):
            Image.fromarray(frame).save(folder / f"{number:04d}.jpg")
    return root


def refused(message: str, *arguments, **keywords) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        open_set(*arguments, **keywords)


# Missing


@pytest.mark.parametrize(
    "source, gone, what",
    [
        ("video", "videos", "videos (data.source=video)"),
        ("frames", "frames", "frames (data.source=frames)"),
        ("features", "features", "features (data.source=features)"),
        ("video", "MSRVTT_data.json", "MSRVTT_data.json"),
    ],
)
def test_a_missing_place_is_named_with_where_it_was_looked_for_and_what_to_do(folder, source, gone, what):
    path = folder / gone
    path.unlink() if path.is_file() else shutil.rmtree(path)
    expected = f"MSR-VTT: missing {what}; looked in {folder.resolve()}. How to get the files and where to put them: "
    refused(expected + "docs/datasets.md#msr-vtt.", folder, source=source)
    refused("scale=mini runs the same experiment on generated data", folder, source=source)


@pytest.mark.parametrize(
    "source, file, noun",
    [
        ("video", "videos/video11.mp4", "video file"),
        ("frames", "frames/video11", "frame folder"),
        ("features", "features/video11.npy", "features"),
    ],
)
def test_missing_clips_are_counted_and_named_or_left_out_on_request(folder, caplog, source, file, noun):
    for name in ("video11", "video14"):
        path = folder / file.replace("video11", name)
        path.unlink() if path.is_file() else shutil.rmtree(path)
    refused(
        f"no {noun} of 2 of the 5 test clips: video11, video14; looked for {Path(file).name} in", folder, source=source
    )
    with caplog.at_level(logging.WARNING):
        data = open_set(folder, source=source, missing="skip")
    assert f"left out 2 test clips that have no {noun}: video11, video14" in caplog.text
    assert data.facts()["skipped"] == {"train": 0, "val": 0, "test": 2}
    assert [v for b in batches(data, "test") for v in b["video"]] == ["video10", "video12", "video13"]


def test_a_split_of_which_nothing_is_there_is_refused_even_with_skip(folder):
    for i in range(7, 10):
        (folder / f"videos/video{i}.mp4").unlink()
    refused("no video file of 3 of the 3 val clips", folder, missing="skip")


# Damaged


def truncated(path: Path, faststart: bool, share: float) -> None:
    write_video(path, footage(0, frames=40), faststart=faststart, crf="1")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])


def unknown_codec(path: Path) -> None:
    write_video(path, footage(0))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))


def cut_matroska(path: Path) -> None:
    """The first 60 % of a download; readers go by what is in a file, whatever its ending."""
    write_video(path.with_suffix(".mkv"), footage(0, frames=40), crf="1")
    data = path.with_suffix(".mkv").read_bytes()
    path.write_bytes(data[: int(0.6 * len(data))])
    path.with_suffix(".mkv").unlink()


DAMAGE = {
    "truncated": (lambda path: truncated(path, False, 0.6), "cannot be decoded, probably truncated"),
    "cut after the header": (lambda path: truncated(path, True, 0.5), "truncated"),
    "empty": (
        lambda path: path.write_bytes(b""),
        "cannot be decoded, probably truncated, damaged or not a video (0 bytes)",
    ),
    "text": (lambda path: path.write_text("<html>404</html>" * 99), "not a video"),
    "sound": (write_sound, "no picture track in it, only audio"),
    "no frames": (no_frames, "no frames in it"),
    "unknown codec": (unknown_codec, "the format of its picture track is unknown to FFmpeg"),
    "cut mkv": (cut_matroska, "s that it announces; truncated"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_an_undecodable_video_is_named_when_it_is_read(folder, kind):
    path = folder / "videos/video12.mp4"
    damage, message = DAMAGE[kind]
    damage(path)
    data = open_set(folder)
    with pytest.raises(DataError, match=re.escape(message)) as error:
        batches(data, "test")
    assert str(path) in str(error.value)


@pytest.mark.parametrize("kind", DAMAGE)
def test_an_undecodable_video_is_left_out_counted_and_named_on_request(folder, caplog, kind):
    DAMAGE[kind][0](folder / "videos/video12.mp4")
    with caplog.at_level(logging.INFO):
        data = open_set(folder, corrupt="skip")
    assert "left out 1 test clips that cannot be read: video12" in caplog.text
    assert data.facts()["skipped"] == {"train": 0, "val": 0, "test": 1}
    assert [v for b in batches(data, "test") for v in b["video"]] == ["video10", "video11", "video13", "video14"]


def test_a_list_of_unreadable_clips_of_an_earlier_version_is_made_again(folder, monkeypatch):
    """It was made when less damage was noticed."""
    cut_matroska(folder / "videos/video12.mp4")
    with monkeypatch.context() as before:
        before.setattr(undecodable, "CHECKS", 1)
        before.setattr(undecodable, "check_clips", lambda *_: {})
        assert open_set(folder, corrupt="skip").skipped["test"] == 0
    assert open_set(folder, corrupt="skip").skipped["test"] == 1


def test_a_video_with_another_ending_is_pointed_to_with_the_pattern_that_finds_it(folder):
    (folder / "videos/video9.mp4").rename(folder / "videos/video9.MP4")
    place = (folder / "videos").resolve()
    refused(f"looked for video9.mp4 in {place}. video9.MP4 is there; {{video}}.* finds it.", folder)
    assert open_set(folder, video_file="{video}.*").facts()["skipped"]["val"] == 0
    source = VideoFiles(folder / "videos", "{video}.mp4")
    with pytest.raises(DataError, match=r"no such video file\. video9\.MP4 is there; {video}\.\* finds it\."):
        source.frames(Clip("video9", "video9", ()), 4)


def test_two_files_of_one_name_are_refused_by_the_pattern_of_any_ending(folder):
    write_video(folder / "videos/video9.mkv", footage(0))
    refused("which is video9.*? video9.mkv, video9.mp4 are there", folder, video_file="{video}.*")


@pytest.mark.parametrize(("rotation", "turned"), [("ignore", False), ("apply", True)])
def test_turned_videos_of_a_data_set_are_read_as_asked_and_ones_own_upright(folder, rotation, turned):
    path = folder / "videos/video12.mp4"
    write_video(path, footage(0, height=32, width=32))
    plain = open_set(folder).clips["test"][2]["frames"]
    path.write_bytes(turn(path.read_bytes(), -0x10000, 0, 0, -0x10000))
    data = open_set(folder, rotation=rotation)
    upside_down = plain.flip(-1, -2)
    torch.testing.assert_close(data.clips["test"][2]["frames"], upside_down if turned else plain)
    torch.testing.assert_close(data.example(path)["frames"], upside_down)


def test_a_zero_frame_file_says_so(tmp_path):
    no_frames(tmp_path / "a.mp4")
    with pytest.raises(DataError, match=r"a\.mp4: no frames in it"):
        read_video(tmp_path / "a.mp4", 4)


def test_nothing_shown_within_the_span_is_said(tmp_path):
    write_video(tmp_path / "a.mp4", footage(0))
    with pytest.raises(DataError, match=r"a\.mp4: no frames from 5 to 6 s"):
        read_video(tmp_path / "a.mp4", 4, (5.0, 6.0))


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(DataError, match=r"a\.mp4: no such video file"):
        read_video(tmp_path / "a.mp4", 4)


@pytest.mark.parametrize("source", ["video", "frames", "features"])
def test_every_kind_of_clip_is_checked_and_no_good_one_is_named(folder, source):
    (folder / "videos/video3.mp4").write_bytes(b"x")
    (folder / "features/video3.npy").write_bytes(b"x")
    (folder / "frames/video3/0005.jpg").write_bytes(b"x")
    data = open_set(folder, source=source)
    clips = [clip for split in data.clips.values() for clip in split.clips]
    assert list(check_clips(clips, data.input, threads=2)) == ["video3"]


def test_the_list_of_unreadable_clips_is_kept_until_a_file_changes(folder, caplog):
    path = folder / "videos/video3.mp4"
    good = path.read_bytes()
    path.write_bytes(b"x")
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert open_set(folder, corrupt="skip").skipped["train"] == 1
    assert caplog.text.count("to find those that cannot be") == 3  # once per split
    path.write_bytes(good)
    assert open_set(folder, corrupt="skip").skipped["train"] == 0


def test_a_split_of_which_nothing_can_be_read_is_refused(folder):
    for i in range(7, 10):
        (folder / f"videos/video{i}.mp4").write_bytes(b"x")
    refused("none of the 3 val clips can be read", folder, corrupt="skip")


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda path: shutil.rmtree(path) or path.mkdir(), "no JPEG frames in it"),
        (
            lambda path: (path / "0003.jpg").write_bytes((path / "0003.jpg").read_bytes()[:-50]),
            "0003.jpg cannot be decoded",
        ),
        (lambda path: Image.new("RGB", (9, 9)).save(path / "0003.jpg"), "frames of different sizes"),
    ],
)
def test_damaged_frame_folders_are_named(folder, damage, message):
    damage(folder / "frames/video12")
    data = open_set(folder, source="frames", frames=5)
    with pytest.raises(DataError, match=message) as error:
        batches(data, "test")
    assert "video12" in str(error.value)


@pytest.mark.parametrize(
    "values, message",
    [
        (np.ones((6, 5)), "video12.npy: 6 rows, other clips have 7"),
        (np.ones((7, 4)), "shape (7, 4), expected (rows, 5)"),
        (np.full((7, 5), np.nan), "row 0: not finite"),
    ],
)
def test_wrong_features_are_named(folder, values, message):
    np.save(folder / "features/video12.npy", values)
    data = open_set(folder, source="features")
    with pytest.raises(DataError, match=re.escape(message)) as error:
        batches(data, "test")
    assert "video12" in str(error.value)


def test_unreadable_features_are_left_out_on_request_the_first_ones_too(folder):
    for name in ("video0", "video12"):
        (folder / f"features/{name}.npy").write_bytes(b"x")
    refused("video0.npy (video0): cannot be read", folder, source="features")
    data = open_set(folder, source="features", corrupt="skip")
    assert data.facts()["grid"] == 7 and data.facts()["skipped"] == {"train": 1, "val": 0, "test": 1}


# Options


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"source": "frame"},
            "data.source: 'frame' is not one of video, frames, features; did you mean 'frames'?",
        ),
        ({"captions": "one"}, "data.captions: 'one' is not one of all, random"),
        ({"corrupt": "black"}, "data.corrupt: 'black' is not one of refuse, skip"),
        ({"frames": 0}, "data.frames: 0 is out of range; allowed: at least 1"),
        ({"batch_size": 0}, "data.batch_size: 0 is out of range"),
        ({"short_side": 15}, "data.short_side=15 is smaller than data.image_size=16"),
        ({"std": [0.2, 0.0, 0.2]}, "data.std: [0.2, 0.0, 0.2] is out of range; allowed: three numbers above 0"),
        ({"mean": [0.5]}, "data.mean: [0.5] is out of range; allowed: three numbers: red, green and blue"),
        (
            {"splits": {"train": "train", "valid": "x"}},
            "data.splits has the keys train, valid; allowed: train, val, test",
        ),
        ({"splits": {"train": None}}, "data.splits.train is null"),
        ({"id_ranges": {"train": [5, 2]}}, "data.id_ranges.train=[5, 2]: the first and the last number"),
        ({"annotations": []}, "data.annotations names no file of training captions"),
        ({"annotations": {"val": "x.json"}}, "data.annotations names no file of training captions"),
        ({"annotations": {"train": "x.json", "dev": "y"}}, "data.annotations: unknown split dev"),
        ({"features": {"dim": 0}}, "stream features: dim is 0"),
        ({"mini": {"train_video": 3}}, "unknown setting 'train_video'. Did you mean 'train_videos'?"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(tmp_path, change, message):
    with pytest.raises(DataError, match=re.escape(message)):
        Captions(**{**KEYWORDS, "root": str(tmp_path), **change})


def test_a_file_pattern_without_the_video_is_refused(folder):
    refused("data.video_file is 'video.mp4', expected a file name with {video} in it", folder, video_file="video.mp4")
