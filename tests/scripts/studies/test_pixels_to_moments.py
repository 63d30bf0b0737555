"""The study from pixels to moments: its videos show what they say, and its recorded answers beat the floors."""

import json

import numpy as np
import pytest

from datamodules.formats.clip_frames import ClipFrames
from datamodules.mini.digits import WORDS, digit_images
from scripts.studies.moving_moments import COLOURS, SIZE, Sizes, captioned, write_videos
from scripts.studies.pixels_to_moments import BLIND, floor, main, scored, table
from scripts.studies.small_clip import train_clip
from tests.datamodules.moment_retrieval.small import read_lines
from tests.programs import ROOT
from tests.tiers import slow

SIZES = Sizes(train=4, val=1, test=2, clips=(7, 8), shot=(2, 3))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    counts = write_videos(folder / "data", SIZES, seed=1)
    assert counts["train"] >= 4 and min(counts.values()) >= 1
    return folder


def colour_of(picture: np.ndarray) -> str:
    """The colour whose name is nearest to that of the picture's brightest pixels."""
    bright = picture.reshape(-1, 3)[np.argsort(picture.reshape(-1, 3).max(1))[-40:]].mean(0)
    return min(COLOURS, key=lambda name: np.abs(bright - np.array(COLOURS[name])).sum())


def test_a_moment_shows_the_colour_that_is_asked_for_and_no_two_moments_meet(work) -> None:
    """In every video, clips inside a query's windows have its colour, and windows of different queries are apart."""
    for split in ("train", "test"):
        rows = read_lines(work / f"data/{split}.jsonl")
        for vid in {row["vid"] for row in rows}:
            colours = [colour_of(picture) for picture in ClipFrames(work / f"data/videos/{vid}.mp4", 2.0)]
            about = [row for row in rows if row["vid"] == vid]
            assert all(row["duration"] == 2 * len(colours) for row in about)
            owner = [None] * len(colours)
            for row in about:
                (named,) = [colour for colour in COLOURS if colour in row["query"].split()]
                assert sum(digit in row["query"].split() for digit in WORDS) == 1
                for start, end in row["relevant_windows"]:
                    for clip in range(int(start / 2), int(end / 2)):
                        assert colours[clip] == named
                        assert owner[clip] is None
                        owner[clip] = row["qid"]


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(work, tmp_path) -> None:
    write_videos(tmp_path / "again", Sizes(1, 1, 1, clips=(7, 8), shot=(2, 3)), seed=1)
    first = "videos/digits00001.mp4"
    assert (tmp_path / "again" / first).read_bytes() == (work / "data" / first).read_bytes()
    write_videos(tmp_path / "other", Sizes(1, 1, 1, clips=(7, 8), shot=(2, 3)), seed=2)
    assert (tmp_path / "other" / first).read_bytes() != (work / "data" / first).read_bytes()


def test_a_few_steps_teach_the_small_clip_the_colours() -> None:
    images = digit_images("train", 1)
    frames, sentences, kinds = captioned(300, images, np.random.default_rng(0))
    assert frames.shape == (300, SIZE, SIZE, 3) and len(set(kinds)) > 30
    clip = train_clip(frames, sentences, kinds, steps=25, seed=0, batch_size=64)
    seen, _, true = captioned(100, digit_images("val", 1), np.random.default_rng(1))
    rows = clip.rows(seen)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    likeness = rows @ rows.T - np.eye(len(rows)) * 2
    colour = np.array(true) % len(COLOURS)
    assert (colour[likeness.argmax(1)] == colour).mean() > 0.6  # chance 0.2


def test_the_floor_reads_the_training_annotations_alone(work) -> None:
    truth = read_lines(work / "data/test.jsonl")
    found = floor(work, truth)
    blank = [row | {"query": "", "vid": "v"} for row in truth]
    assert found == floor(work, blank)
    perfect = [{"qid": r["qid"], "pred_relevant_windows": [[*w, 1.0] for w in r["relevant_windows"]]} for r in truth]
    assert (
        found["mAP"]
        < scored([row | {"vid": t["vid"], "query": t["query"]} for row, t in zip(perfect, truth, strict=True)], truth)[
            "mAP"
        ]
    )


def test_the_recorded_answers_beat_both_floors_clearly_and_stand_on_the_page() -> None:
    result = json.loads((ROOT / "docs/results/pixels_to_moments.json").read_text(encoding="utf-8"))
    constant, blind, *answers = result["rows"]
    assert answers
    for row in answers:
        for name in BLIND:
            assert row["scores"][name] > 2 * max(constant["scores"][name], blind["scores"][name])
        assert row["windows_without_length"] == 0
        assert row["first_window_as_in_training"] > 95
    page = (ROOT / "docs/results/pixels_to_moments.md").read_text(encoding="utf-8")
    assert table(result) in page


@pytest.mark.parametrize("experiment", [slow("clip_moments_baseline")])
def test_the_whole_study_in_small(tmp_path, capsys, experiment) -> None:
    """Every command of the chain; too little is trained to be scored, but both ways to ask give the same windows."""
    sizes = ["--videos", "40", "6", "8", "--pictures", "600", "--clip-steps", "20"]
    out = tmp_path / "out.json"
    main(["--work", str(tmp_path / "work"), *sizes, "--experiments", experiment, "--out", str(out)])
    result = json.loads(out.read_text())
    assert result["rows"][2]["first_window_as_in_training"] == 100.0 and result["test_videos"] == 8
    assert str(tmp_path / "work") not in out.read_text()
    assert "| a model without the query |" in capsys.readouterr().out
