"""Captioning videos of one's own by command: folders, parts, tables, subtitles, and files that cannot be read.

The model here says how blue its frames are, and the videos' blue is their time: captions can be checked by hand.
"""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.video_captioning import Captions
from scripts import caption_videos
from scripts.caption_videos import main
from tests.datamodules.test_video_files import turn
from tests.datamodules.video_captioning.small import KEYWORDS, write_video


class Blue:
    """write: the blue of the first and of the last frame, 0 to 99, for each clip, and how many clips came at once."""

    device = torch.device("cpu")

    def __init__(self, key: str = "frames"):
        self.key, self.sizes = key, []

    def to(self, device: str) -> "Blue":
        return self

    def write(self, batch: dict) -> list[str]:
        values = batch[self.key]
        self.sizes.append(len(values))
        assert len(batch["video"]) == len(values)
        if self.key == "features":
            if values.shape[1] != 7:
                raise ValueError(f"features must be (B, 7, C), these are {tuple(values.shape)}")
            return [f"rows of {float(clip.mean()):.0f}" for clip in values]
        blue = (values[:, [0, -1], 2].mean((2, 3)) * 0.225 + 0.406).clamp(0, 1) * 99
        return [f"from {first:.0f} to {last:.0f}" for first, last in blue.tolist()]


def film(path: Path, seconds: int = 4, rate: int = 10, side=(48, 64)) -> Path:
    frames = np.zeros((seconds * rate, *side, 3), np.uint8)
    frames[..., 2] = np.linspace(0, 255, len(frames))[:, None, None]
    write_video(path, frames, rate=rate, crf="1", g="5")
    return path


@pytest.fixture
def model(tmp_path: Path, monkeypatch) -> Blue:
    """The command's model and data module; its options of decoding are not used."""
    blue, data = Blue(), Captions(**{**KEYWORDS, "root": str(tmp_path / "nothing"), "image_size": 32})
    monkeypatch.setattr(caption_videos, "load", lambda checkpoint, **decoding: (blue, data))
    return blue


def run(*arguments) -> str:
    """What the command ended with; "" if all is well."""
    try:
        main([*map(str, arguments), "--checkpoint", "any", "--device", "cpu"])
    except SystemExit as stop:
        return str(stop.code)
    return ""


def spoken(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 videos of which 3 are bad, and two other files."""
    place = tmp_path / "videos"
    place.mkdir()
    good = film(tmp_path / "good.mp4").read_bytes()
    for number in range(20):
        (place / f"v{number}.mp4").write_bytes(good)
    (place / "v3.mp4").write_bytes(good[: len(good) // 2])
    (place / "v11.mp4").write_bytes(good.replace(b"avc1", b"zzzz"))
    (place / "v19.mp4").write_bytes(b"")
    (place / "notes.txt").touch()
    (place / ".hidden").touch()
    return place


def test_3_bad_ones_of_20_cost_3_captions_and_are_named_at_the_end(model, folder, capsys) -> None:
    ended = run(folder)
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert len(lines) == 17
    assert [line.split("\t")[0] for line in lines] == [
        str(folder / f"v{number}.mp4") for number in range(20) if number not in (3, 11, 19)
    ]
    assert all(spoken(line.split("\t")[1]) == [0, 99] for line in lines)
    first, *failures = ended.splitlines()
    assert first == "3 of 20 could not be captioned:"
    assert sorted(Path(line.split(":")[0].split(" ")[0]).name for line in failures) == ["v11.mp4", "v19.mp4", "v3.mp4"]
    assert "the format of its picture track is unknown" in ended and "0 bytes" in ended
    assert "left out 1 that are neither videos nor features by their ending: " in said.err and "notes.txt" in said.err


@pytest.mark.parametrize(("size", "expected"), [(1, [1] * 17), (5, [5, 5, 5, 2]), (100, [17])])
def test_batches_are_full_whatever_is_bad_between(model, folder, size, expected) -> None:
    assert run(folder, "--batch-size", size).startswith("3 of 20")
    assert model.sizes == expected


def test_one_bad_file_alone_is_a_sentence(model, folder) -> None:
    assert run(folder / "v19.mp4").startswith(f"{folder / 'v19.mp4'} cannot be decoded")
    assert run(folder / "none.mp4") == f"{folder / 'none.mp4'}: no such file."


def test_a_table_and_subtitles_have_times(model, tmp_path, capsys) -> None:
    film(tmp_path / "a, b.mp4", seconds=3)
    film(tmp_path / "c.mkv", seconds=62, rate=5)
    assert run(tmp_path / "a, b.mp4", tmp_path / "c.mkv", "--csv", tmp_path / "o/c.csv", "--srt", tmp_path / "s") == ""
    assert capsys.readouterr().out == ""
    with (tmp_path / "o/c.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows] == [str(tmp_path / "a, b.mp4"), str(tmp_path / "c.mkv")]
    assert [(row["start"], row["end"]) for row in rows] == [("0.000", "3.000"), ("0.000", "62.000")]
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["a, b.srt", "c.srt"]
    caption = rows[1]["caption"]
    assert (tmp_path / "s/c.srt").read_text() == f"1\n00:00:00,000 --> 00:01:02,000\n{caption}\n"


def test_every_part_is_captioned_by_its_own_frames(model, tmp_path) -> None:
    film(tmp_path / "a.mp4", seconds=11)
    assert run(tmp_path / "a.mp4", "--every", 2, "--csv", tmp_path / "c.csv", "--srt", tmp_path) == ""
    with (tmp_path / "c.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    spans = [(float(row["start"]), float(row["end"])) for row in rows]
    assert spans == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10), (10, 11)]
    for row, (start, end) in zip(rows, spans, strict=True):
        expected = [99 * start / 10.9, 99 * (end - 0.1) / 10.9]
        assert np.abs(np.array(spoken(row["caption"])) - expected).max() <= 2
    cues = (tmp_path / "a.srt").read_text().split("\n\n")
    assert len(cues) == 6
    assert cues[2].startswith("3\n00:00:04,000 --> 00:00:06,000\n")


@pytest.mark.parametrize(("seconds", "last"), [(4, [(0, 4)]), (9, [(0, 6), (6, 9)]), (8, [(0, 8)])])
def test_what_is_left_is_a_part_if_it_is_half_as_long(model, tmp_path, seconds, last) -> None:
    path = film(tmp_path / "a.mp4", seconds=seconds)
    parts = caption_videos.parts_of(path, 6.0, timed=False)
    assert [edge for part in parts for edge in part.span] == pytest.approx([edge for span in last for edge in span])


def test_a_phones_video_is_described_upright(model, tmp_path, monkeypatch) -> None:
    """The left half of the stored picture is blue at first, which is the upper one when it is shown."""
    frames = np.zeros((10, 64, 64, 3), np.uint8)
    frames[:, :, :32, 2] = 255
    write_video(tmp_path / "a.mp4", frames, rate=10, crf="1")
    (tmp_path / "a.mp4").write_bytes(turn((tmp_path / "a.mp4").read_bytes(), 0, 0x10000, -0x10000, 0))
    seen = []
    monkeypatch.setattr(model, "write", lambda batch: [seen.append(batch["frames"][0, 0, 2]) or "x"])
    assert run(tmp_path / "a.mp4") == ""
    blue = seen[0] > 0
    assert blue[:14].float().mean() > 0.9 and blue[18:].float().mean() < 0.1


def test_features_of_another_length_fail_alone_and_batches_are_of_one_length(model, tmp_path, monkeypatch) -> None:
    model.key = "features"
    data = Captions(**{**KEYWORDS, "root": str(tmp_path), "source": "features"})
    monkeypatch.setattr(caption_videos, "load", lambda checkpoint, **decoding: (model, data))
    place = tmp_path / "rows"
    place.mkdir()
    for number in range(4):
        np.save(place / f"v{number}.npy", np.full((7 if number != 1 else 9, 5), number, np.float16))
    ended = run(place, "--csv", tmp_path / "c.csv")
    assert ended.splitlines() == [
        "1 of 4 could not be captioned:",
        f"{place / 'v1.npy'}: features must be (B, 7, C), these are (1, 9, 5)",
    ]
    assert sorted(model.sizes) == [1, 3]
    assert (tmp_path / "c.csv").read_text().splitlines()[1] == f"{place / 'v0.npy'},,,rows of 0"
    assert "it has no times, which --srt needs" in run(place / "v0.npy", "--srt", tmp_path)
    assert "no times by which --every could cut it" in run(place / "v0.npy", "--every", 2)


def test_two_videos_of_one_name_get_subtitles_of_their_own(model, tmp_path) -> None:
    film(tmp_path / "a.mp4"), film(tmp_path / "a.mkv")
    assert run(tmp_path, "--srt", tmp_path / "s") == ""
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["a.mkv.srt", "a.mp4.srt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--batch-size", 0), "2"), (("--every", 0), "2"), (("--every", "nan"), "2"), (("--plot", "x"), "--plot is for")],
)
def test_wrong_options_are_refused(model, folder, options, message) -> None:
    assert run(folder, *options).startswith(message)


def test_an_empty_folder_says_what_could_be_in_it(model, tmp_path) -> None:
    assert "nothing to caption in it: no video file (.mp4, " in run(tmp_path)
