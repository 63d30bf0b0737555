"""A video file and a sentence: what `predict` gives for the rows that CLIP makes of them; what is missing is named."""

from itertools import pairwise

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.formats.clip_frames import ClipFrames
from tasks.common.clip_extractor import ClipExtractor
from tasks.common.errors import CheckpointError
from tasks.moment_retrieval.predict import load
from tasks.moment_retrieval.predictor import MomentPredictor, is_sentence, predict
from tests.datamodules.video_captioning.small import footage, write_video
from tests.tasks.moment_retrieval.small_clip import FACTS, WIDTH, write_checkpoint, write_clip

QUERIES = ["a red seven is on the screen", "a dog runs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """clip/, model.ckpt, and videos of 14 and 62 s: 7 and 31 clips, of which the model reads 12 at once."""
    folder = tmp_path_factory.mktemp("predictor")
    write_clip(folder / "clip")
    write_checkpoint(folder / "model.ckpt")
    for name, seconds in (("short", 14), ("long", 62)):
        write_video(folder / f"{name}.mp4", footage(1, frames=2 * seconds, height=48, width=64), rate=2)
    return folder


@pytest.fixture(scope="module")
def predictor(folder) -> MomentPredictor:
    return MomentPredictor(folder / "model.ckpt", folder / "clip")


@pytest.mark.parametrize(("name", "clips"), [("short", 7), ("long", 31)])
def test_a_video_file_and_sentences_get_what_their_rows_get(folder, predictor, name, clips) -> None:
    clip = ClipExtractor.load(folder / "clip")
    frames = ClipFrames(folder / f"{name}.mp4", 2.0)
    rows, tokens = clip.rows(frames), [clip.words(query) for query in QUERIES]
    expected = predict(load(folder / "model.ckpt"), rows, tokens, duration=frames.duration)
    found = predictor.predict(folder / f"{name}.mp4", QUERIES)
    assert found == expected
    for answer in found:
        assert len(answer["saliency"]) == clips
        windows = answer["windows"]
        assert windows and all(0 <= start < end <= 2 * clips for start, end, _ in windows)
        assert len({tuple(window[:2]) for window in windows}) == len(windows)
    assert found[0] != found[1]


def test_features_arrays_files_and_sentences_may_be_mixed(folder, predictor, tmp_path) -> None:
    expected = predictor.predict(str(folder / "short.mp4"), QUERIES[0])
    rows, words = predictor.clip.rows(ClipFrames(folder / "short.mp4", 2.0)), predictor.clip.words(QUERIES[0])
    np.savez(tmp_path / "v.npz", features=rows)
    np.savez(tmp_path / "q.npz", last_hidden_state=words)
    for video in (rows, tmp_path / "v.npz", [tmp_path / "v.npz"], {"clip_features": rows}):
        assert predictor.predict(video, [tmp_path / "q.npz"]) == predictor.predict(video, [words]) == expected


def test_a_model_of_several_streams_takes_a_video_file_for_that_of_clip(folder, predictor, tmp_path) -> None:
    changes = {"video_dim": WIDTH + 7 + 2, "streams": {"slow": 7, "clip_features": WIDTH}}
    two = MomentPredictor(write_checkpoint(tmp_path / "two.ckpt", **changes), predictor.clip)
    slow = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    np.save(tmp_path / "slow.npy", slow)
    rows = predictor.clip.rows(ClipFrames(folder / "short.mp4", 2.0))
    expected = two.predict({"slow": slow, "clip_features": rows}, QUERIES)
    assert two.predict([tmp_path / "slow.npy", folder / "short.mp4"], QUERIES) == expected
    with pytest.raises(DataError, match="a video file gives one stream.* trained on 2: slow, clip_features.*clip_mom"):
        two.predict(folder / "short.mp4", QUERIES)
    with pytest.raises(DataError, match=r"this CLIP gives 64 numbers per clip, but stream slow of the model has 7"):
        two.predict([folder / "short.mp4", tmp_path / "slow.npy"], QUERIES)


def test_options_reach_the_prediction(folder, predictor) -> None:
    (usual,) = predictor.predict(folder / "long.mp4", QUERIES[0])
    (few,) = predictor.predict(folder / "long.mp4", QUERIES[0], windows=1)
    assert few["windows"] == usual["windows"][:1]
    (seconds,) = predictor.predict(folder / "short.mp4", QUERIES[0], clip_length=1.0)
    assert len(seconds["saliency"]) == 14
    (apart,) = predictor.predict(folder / "short.mp4", QUERIES[0], overlap=0.0)
    spans = sorted(window[:2] for window in apart["windows"])
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_what_is_missing_is_named(folder, tmp_path) -> None:
    bare = MomentPredictor(folder / "model.ckpt")
    with pytest.raises(DataError, match=r"short.mp4 is a video file, which CLIP reads: name the CLIP model.*--clip"):
        bare.predict(folder / "short.mp4", [np.zeros((3, WIDTH))])
    with pytest.raises(DataError, match="query 'a dog runs' is a sentence, which CLIP reads: name the CLIP model"):
        bare.predict(np.ones((3, WIDTH)), ["a dog runs"])
    with pytest.raises(DataError, match=r"query: there is no file .*none.npz"):
        bare.predict(np.ones((3, WIDTH)), [tmp_path / "none.npz"])
    with pytest.raises(DataError, match=r"none.mp4: no such video file"):
        MomentPredictor(folder / "model.ckpt", folder / "clip").predict(tmp_path / "none.mp4", QUERIES)
    (tmp_path / "a.txt").write_text("a dog runs")
    with pytest.raises(DataError, match=r"a.txt is neither an .npz nor an .npy file, nor a video file"):
        bare.predict(tmp_path / "a.txt", [np.zeros((3, WIDTH))])
    with pytest.raises(CheckpointError, match="--device nowhere: cannot be used"):
        MomentPredictor(folder / "model.ckpt", device="nowhere")


def test_another_clip_model_than_the_trainings_is_refused(folder, predictor, tmp_path) -> None:
    facts = {**FACTS, "streams": {"clip_features": 32}, "video_dim": 34, "text_dim": 32}
    other = MomentPredictor(write_checkpoint(tmp_path / "other.ckpt", **facts), predictor.clip)
    with pytest.raises(DataError, match="this CLIP gives 64 numbers per token, but the model was trained on 32"):
        other.predict(np.ones((3, 32)), ["a dog runs"])
    with pytest.raises(DataError, match="this CLIP gives 64 numbers per clip, but stream clip_features .* has 32"):
        other.predict(folder / "short.mp4", [np.ones((3, 32))])


def test_words_and_files_are_told_apart(tmp_path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    assert is_sentence("a dog runs.") and is_sentence("word " * 2000) and is_sentence("")
    assert not is_sentence("q.npz") and not is_sentence(tmp_path / "rows.jsonl")
