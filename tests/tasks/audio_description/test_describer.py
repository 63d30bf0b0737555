"""Describing movie files: the model reads to the last digit what it reads of the data set; checks before the work."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.audio_description.cues import read_cues
from datamodules.audio_description.gaps import GapRules
from datamodules.errors import DataError
from tasks.audio_description.describer import AudioDescriber, Description
from tasks.common.errors import CheckpointError
from tests.small_movies import open_set, write_checkpoint, write_plain, write_set
from tests.tasks.moment_retrieval.small_clip import write_clip

NAME = "test003"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def checkpoint(made) -> Path:
    return write_checkpoint(made / "plain.ckpt", open_set(made, normalise="standard").facts())


def spied(describer: AudioDescriber) -> list[dict]:
    """The batches that the model gets."""
    batches, inner = [], describer.module.describe
    describer.module.describe = lambda batch: batches.append(batch) or inner(batch)
    return batches


CASES = [
    {"normalise": "standard"},
    {"normalise": "l2", "sampling": "window"},
    {"normalise": "none", "sampling": "linspace", "tokens": 7},
    {"normalise": "standard", "tracks": "audio"},
    {"normalise": "l2", "audio_features": None},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_model_reads_what_it_reads_of_the_data_set_to_the_last_digit(made, tmp_path, case):
    data = open_set(made, **case)
    path = write_checkpoint(tmp_path / "a.ckpt", data.facts())
    describer = AudioDescriber(path, made / "clip")
    batches = spied(describer)
    found = describer.describe(
        made / f"movies/{NAME}.mp4", gaps=made / f"descriptions/{NAME}.csv", batch_size=3, rules=GapRules(longest=60.0)
    )
    (expected,) = list(data.test_dataloader())
    assert len(batches) == 1 and len(found) == len(expected["text"]) == 3
    for name in ("video", "audio", "video_keep", "audio_keep", "start", "end"):
        assert torch.equal(batches[0][name], expected[name]), name
    assert batches[0]["video_keep"].any() == (case.get("tracks") != "audio")
    assert batches[0]["audio_keep"].any() == ("audio_features" not in case)
    assert [one.full_text for one in found] == describer.module.describe(expected)


def test_descriptions_are_between_the_dialogue_in_order_with_times(made, checkpoint):
    found = AudioDescriber(checkpoint, made / "clip").describe(
        made / f"movies/{NAME}.mp4", subtitles=made / f"subtitles/{NAME}.srt", too_long="keep"
    )
    cues = read_cues(made / f"subtitles/{NAME}.srt").cues
    assert len(found) == 3 and all(isinstance(one, Description) and one.text for one in found)
    assert not any(one.start < cue.end + 0.19 and one.end > cue.start - 0.19 for one in found for cue in cues)
    assert [one.start for one in found] == sorted(one.start for one in found)


def test_the_result_does_not_depend_on_how_many_windows_come_at_once(made, checkpoint):
    describer = AudioDescriber(checkpoint, made / "clip")
    rules = GapRules(longest=1.5)
    one, many = (describer.describe(made / f"movies/{NAME}.mp4", rules=rules, batch_size=size) for size in (1, 4))
    assert one == many and len(one) == 14


def test_without_subtitles_and_gaps_the_whole_movie_is_cut_and_this_is_said(made, checkpoint):
    plan = AudioDescriber(checkpoint, made / "clip").plan(made / f"movies/{NAME}.mp4")
    assert plan.windows == [(0.0, 5.0), (5.0, 10.0), (10.0, 15.0), (15.0, 20.0)] and plan.duration == 20.0
    assert any("descriptions may be spoken over dialogue" in note for note in plan.notes)


def test_own_earlier_sentences_and_subtitles_are_read_if_the_model_was_trained_so(made, tmp_path):
    data = open_set(made, previous="ground_truth", previous_count=2, subtitles="subtitles.csv", subtitle_seconds=6.0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    path = write_checkpoint(
        tmp_path / "a.ckpt", data.facts(), llm={"config": sizes | {"max_position_embeddings": 512}, "vocab_size": 64}
    )
    describer = AudioDescriber(path, made / "clip")
    batches, texts = spied(describer), iter(["one", "two", "three"])
    describer.module.describe = lambda batch: batches.append(batch) or [next(texts)]
    movie, subtitles = made / f"movies/{NAME}.mp4", made / f"subtitles/{NAME}.srt"
    describer.describe(movie, subtitles=subtitles)
    assert [batch["previous"] for batch in batches] == [[[]], [["one"]], [["one", "two"]]]
    assert [batch["subtitles"] for batch in batches] == [
        [lines] for lines in data.segments["test"].context["subtitles"]
    ]
    plan = describer.plan(movie)
    assert any("no subtitles are given (--subtitles)" in note for note in plan.notes)


def test_rows_that_were_made_elsewhere_need_no_movie(made, checkpoint, tmp_path):
    data, movie = made / "data", made / f"movies/{NAME}.mp4"
    rows = {f"{name}_rows": data / f"{name}_features/{NAME}.npy" for name in ("video", "audio")}
    describer = AudioDescriber(checkpoint)
    expected = AudioDescriber(checkpoint, made / "clip").describe(movie)
    assert describer.describe(None, **rows) == expected
    assert describer.describe(movie, **rows) == expected
    half = tmp_path / "half.npy"
    np.save(half, np.load(rows["video_rows"])[:40])
    message = r"not equally long, in rows: --video-rows 40, --audio-rows \d+\. The model reads 5 rows a second"
    with pytest.raises(DataError, match=message):
        describer.plan(None, **(rows | {"video_rows": half}))
    with pytest.raises(DataError, match=r"--video-rows 40, .*mp4 \d+"):
        describer.plan(movie, video_rows=half)
    with pytest.raises(DataError, match="no movie, and no --audio-rows"):
        describer.plan(None, video_rows=rows["video_rows"])


def test_what_does_not_fit_is_refused_before_the_work(made, checkpoint, tmp_path):
    movie, describer = made / f"movies/{NAME}.mp4", AudioDescriber(checkpoint, made / "clip")
    with pytest.raises(DataError, match="name the CLIP model"):
        AudioDescriber(checkpoint).plan(movie)
    with pytest.raises(DataError, match="not the one of the training's features: its weights differ"):
        AudioDescriber(checkpoint, write_clip(tmp_path / "other", seed=1)).plan(movie)
    silent = write_plain(tmp_path / "silent.mp4", 4.0, None)
    with pytest.raises(DataError, match=r"silent\.mp4: no sound track in it, and the model was trained on picture and"):
        describer.plan(silent)
    (tmp_path / "far.srt").write_text("00:00:00,100 --> 00:00:20,000\nx\n\n01:00:00,000 --> 01:00:01,000\ny\n")
    with pytest.raises(DataError, match=r"nowhere a window of at least 1 s, 0\.2 s away from dialogue"):
        describer.plan(movie, subtitles=tmp_path / "far.srt")
    np.save(tmp_path / "wide.npy", np.zeros((9, 3)))
    with pytest.raises(DataError, match="its rows have 3 numbers, but the model was trained on sound rows of 16"):
        describer.plan(movie, audio_rows=tmp_path / "wide.npy")
    with pytest.raises(ValueError, match="allowed: keep, shorten, leave_out"):
        list(describer.carry_out(describer.plan(movie), too_long="cut"))


def test_cues_behind_the_end_are_counted(made, checkpoint, tmp_path):
    path = tmp_path / "long.srt"
    path.write_text("00:00:01,000 --> 00:00:02,000\nx\n\n00:00:30,000 --> 00:00:31,000\ny\n")
    plan = AudioDescriber(checkpoint, made / "clip").plan(made / f"movies/{NAME}.mp4", subtitles=path)
    assert any("1 of 2 cues begin after the movie's end at 20.0 s" in note for note in plan.notes)


def test_sounds_in_brackets_are_no_dialogue_only_if_asked(made, checkpoint, tmp_path):
    path = tmp_path / "sounds.srt"
    path.write_text("00:00:01,000 --> 00:00:05,000\n[rain]\n\n00:00:10,000 --> 00:00:14,500\nYes.\n")
    describer, movie = AudioDescriber(checkpoint, made / "clip"), made / f"movies/{NAME}.mp4"
    assert len(describer.plan(movie, subtitles=path).windows) == 3
    assert len(describer.plan(movie, subtitles=path, ignore_sounds=True).windows) == 4


def test_features_that_do_not_say_how_they_were_made(made, tmp_path):
    """As MAD's: pictures of the same width with a word of warning, sound only as rows."""
    folder = Path(shutil.copytree(made / "data", tmp_path / "data"))
    for track in ("video", "audio"):
        (folder / f"{track}_features/extraction.json").unlink()
    describer = AudioDescriber(write_checkpoint(tmp_path / "a.ckpt", open_set(tmp_path).facts()), made / "clip")
    movie = made / f"movies/{NAME}.mp4"
    with pytest.raises(
        DataError, match=r"16 numbers, 5 per second\), from the extractor of the training's: --audio-rows"
    ):
        describer.plan(movie)
    plan = describer.plan(movie, audio_rows=folder / f"audio_features/{NAME}.npy")
    assert any("do not say which CLIP made them" in note for note in plan.notes)


def test_checkpoints_that_cannot_be_used_are_refused(made, checkpoint, tmp_path):
    with pytest.raises(CheckpointError, match="there is no such file"):
        AudioDescriber(tmp_path / "none.ckpt")
    content = torch.load(checkpoint, weights_only=True)
    old = tmp_path / "old.ckpt"
    facts = content["hyper_parameters"]["facts"]
    content["hyper_parameters"]["facts"] = {name: facts[name] for name in facts if name != "recipe"}
    torch.save(content, old)
    with pytest.raises(CheckpointError, match="does not say how its features were scaled"):
        AudioDescriber(old)
    content["hyper_parameters"]["facts"] = {"clips": 3}
    torch.save(content, old)
    with pytest.raises(CheckpointError, match="is not a checkpoint of audio description"):
        AudioDescriber(old)
    with pytest.raises(CheckpointError, match="num_beams"):
        AudioDescriber(checkpoint, num_beams=0)
