"""The MAD-v2 datamodule on small files in the real format: the batch contract."""

import errno
import json
import logging
import math
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from datamodules.audio_description import Descriptions
from datamodules.loading import Unrepeated
from tests.datamodules.audio_description.small import FILES, KEYWORDS, SETTINGS, change_features, movies, read_rows


def first_batch(data: Descriptions, split: str = "test") -> dict:
    return next(iter(getattr(data, f"{split}_dataloader")()))


# The contract


def test_batch_contract(open_data):
    data = open_data()
    for split, size in (("train", 8), ("val", 16), ("test", 16)):
        batch = first_batch(data, split)
        assert set(batch) == {
            "video", "audio", "video_keep", "audio_keep", "text", "movie", "start", "end", "ann_id"
        }  # fmt: skip
        for track in ("video", "audio"):
            assert batch[track].shape == (size, 25, 64) and batch[track].dtype == torch.float32
            assert batch[f"{track}_keep"].shape == (size, 25) and batch[f"{track}_keep"].dtype == torch.bool
            assert (batch[track][~batch[f"{track}_keep"]] == 0).all()
        for key in ("text", "movie", "ann_id"):
            assert len(batch[key]) == size and all(type(value) is str for value in batch[key])
        for key in ("start", "end"):
            assert batch[key].shape == (size,) and batch[key].dtype == torch.float64


@pytest.mark.parametrize("in_memory", [True, False])
def test_tokens_are_the_rows_of_the_file(open_data, folder, in_memory):
    data = open_data(in_memory=in_memory)
    lengths = set()
    with h5py.File(folder / FILES.video) as video, h5py.File(folder / FILES.audio) as audio:
        for batch in data.test_dataloader():
            for i, (movie, start, end) in enumerate(zip(batch["movie"], batch["start"], batch["end"], strict=True)):
                first, stop = math.floor(start * 5), math.ceil(end * 5)
                if stop - first > 25:
                    rows = [round(first + k * (stop - 1 - first) / 24) for k in range(25)]
                else:
                    rows = list(range(first, stop))
                lengths.add(stop - first)
                assert batch["video_keep"][i].tolist() == [True] * len(rows) + [False] * (25 - len(rows))
                for track, file in (("video", video), ("audio", audio)):
                    expected = torch.from_numpy(np.stack([file[movie][row] for row in rows])).float()
                    assert torch.equal(batch[track][i, : len(rows)], expected)
    assert min(lengths) < 25 < max(lengths)


def test_evaluation_order_is_movie_then_start(open_data):
    data = open_data()
    for split in ("val", "test"):
        order = [
            (movie, float(start))
            for batch in getattr(data, f"{split}_dataloader")()
            for movie, start in zip(batch["movie"], batch["start"], strict=True)
        ]
        assert order == sorted(order) and len(order) == 20 * len({movie for movie, _ in order})


def test_ann_id_is_the_row_of_the_file(open_data, folder):
    rows = read_rows(folder / FILES.eval)[1:]
    batch = first_batch(open_data())
    for ann_id, text, movie in zip(batch["ann_id"], batch["text"], batch["movie"], strict=True):
        stem, row = ann_id.split(":")
        assert stem == "eval" and rows[int(row)][3] == text and rows[int(row)][0] == movie


def test_leading_zeros_of_movie_ids_survive(open_data, folder):
    found = {movie for batch in open_data().train_dataloader() for movie in batch["movie"]}
    assert found == set(movies(folder, "TRAIN")) and any(movie.startswith("0") for movie in found)


def test_training_order_follows_torch_seed(open_data):
    data = open_data()

    def order(seed):
        torch.manual_seed(seed)
        return [ann_id for batch in data.train_dataloader() for ann_id in batch["ann_id"]]

    assert order(0) == order(0) != order(1)
    assert len(set(order(0))) == 120 // 8 * 8


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_that_resumes_goes_on_after_its_last_batch(open_data, workers):
    data = open_data(in_memory=False, num_workers=workers)
    whole = {}
    for epoch in range(2):
        loader = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        whole[epoch] = [batch["ann_id"] for batch in loader]
    assert whole[0] != whole[1]
    for epoch, given in ((0, 4), (1, 1)):
        loader = data.train_dataloader()
        loader.load_state_dict({"epoch": epoch, "batches": given})
        loader.sampler.set_epoch(epoch)
        assert [batch["ann_id"] for batch in loader] == whole[epoch][given:]


def test_workers_and_none_give_the_same_batches(open_data):
    alone, helped = open_data(in_memory=False), open_data(in_memory=False, num_workers=2)
    for a, b in zip(alone.test_dataloader(), helped.test_dataloader(), strict=True):
        assert a["ann_id"] == b["ann_id"] and torch.equal(a["video"], b["video"])


def test_facts_and_oracle_after_prepare_data_alone(tmp_path):
    data = Descriptions(**KEYWORDS, root=str(tmp_path), mini=SETTINGS)
    data.prepare_data()
    facts = data.facts()
    assert (facts["video_dim"], facts["audio_dim"], facts["tokens"]) == (64, 64, 25)
    assert len(facts["train_texts"]) == 120
    batches = list(data.test_dataloader())
    assert set(data.oracle()) == {ann_id for batch in batches for ann_id in batch["ann_id"]}


def test_mini_without_a_sound_file(tmp_path):
    data = Descriptions(
        **{**KEYWORDS, "audio_features": None}, root=str(tmp_path), mini={**SETTINGS, "train_movies": 1}
    )
    data.prepare_data()
    data.setup()
    assert not first_batch(data)["audio_keep"].any()


@pytest.mark.parametrize("blank", [{"audio_features": None}, {"tracks": "video"}, {"tracks": "audio"}])
def test_a_run_that_reads_one_track_has_no_oracle(tmp_path, blank):
    """The oracle reads both tracks, so it would not be this run's ceiling."""
    data = Descriptions(**{**KEYWORDS, **blank}, root=str(tmp_path), mini={**SETTINGS, "train_movies": 1})
    data.prepare_data()
    assert data.oracle() is None


def test_real_data_has_no_oracle(open_data):
    assert open_data().oracle() is None


# Tracks and scales


def test_a_blanked_track_is_zero_and_not_kept(open_data):
    both, video = first_batch(open_data()), first_batch(open_data(tracks="video"))
    audio = first_batch(open_data(tracks="audio"))
    assert torch.equal(video["video"], both["video"]) and torch.equal(audio["audio"], both["audio"])
    assert not video["audio"].any() and not video["audio_keep"].any() and video["audio"].shape == (16, 25, 64)
    assert not audio["video"].any() and not audio["video_keep"].any()


def test_without_an_audio_file_the_audio_track_is_blank(open_data, folder):
    (folder / FILES.audio).unlink()
    batch = first_batch(open_data(audio_features=None, audio_dim=7))
    assert batch["audio"].shape == (16, 25, 7) and not batch["audio_keep"].any() and batch["video_keep"].any()


@pytest.mark.parametrize("in_memory", [True, False])
def test_standard_uses_training_statistics_only(open_data, folder, in_memory):
    for movie in movies(folder, "EVAL"):
        change_features(folder, FILES.video, movie, lambda values: values * 0 + 100)
    plain, scaled = open_data(in_memory=in_memory), open_data(in_memory=in_memory, normalise="standard")
    real = torch.cat([batch["video"][batch["video_keep"]] for batch in _all(plain)])
    mean, std = real.double().mean(0), real.double().std(0, correction=0)
    for a, b in zip(plain.test_dataloader(), scaled.test_dataloader(), strict=True):
        expected = ((a["video"] - mean) / (std + 0.1)).float() * a["video_keep"][..., None]
        torch.testing.assert_close(b["video"], expected, rtol=1e-4, atol=1e-3)
        assert torch.equal(a["video_keep"], b["video_keep"])


def _all(data: Descriptions):
    """Every training segment, also those of a last short batch."""
    segments = data.segments["train"]
    return [segments.__getitems__(list(range(len(segments))))]


def test_statistics_are_kept_and_follow_the_data(open_data, folder):
    def kept():
        return {path.name for path in folder.glob(".*statistics*.json")}

    first = first_batch(open_data(normalise="standard"))
    names = kept()
    assert len(names) == 2  # one per track
    assert torch.equal(first_batch(open_data(normalise="standard"))["video"], first["video"]) and kept() == names
    change_features(folder, FILES.video, movies(folder, "TRAIN")[0], lambda values: values * 2)
    assert not torch.equal(first_batch(open_data(normalise="standard"))["video"], first["video"])
    assert len(kept()) == 3


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_statistics_that_cannot_be_kept_are_computed_again(open_data, folder, monkeypatch, caplog, code):
    expected = first_batch(open_data(normalise="standard"))
    for path in folder.glob(".*statistics*.json"):
        path.unlink()

    def refuse(path, *_, **__):
        path.write_bytes(b"half")  # as a full disk would leave it
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "write_text", refuse)
    with caplog.at_level(logging.INFO):
        found = first_batch(open_data(normalise="standard"))
    assert torch.equal(found["video"], expected["video"]) and torch.equal(found["audio"], expected["audio"])
    assert f"cannot be kept ({os.strerror(code)}): the next run makes it again" in caplog.text
    assert not list(folder.glob(".*statistics*.json"))


@pytest.mark.parametrize("in_memory", [True, False])
def test_l2_gives_rows_of_length_one(open_data, in_memory):
    batch = first_batch(open_data(normalise="l2", in_memory=in_memory))
    length = batch["video"].norm(dim=-1)
    torch.testing.assert_close(length[batch["video_keep"]], torch.ones(int(batch["video_keep"].sum())))
    assert not length[~batch["video_keep"]].any()


# Splits


def test_val_is_held_out_of_train_by_number(open_data, folder):
    data = open_data(val_split=2)
    sets = {split: set(segments.movie) for split, segments in data.segments.items()}
    assert len(sets["val"]) == 2 and sets["val"] | sets["train"] == set(movies(folder, "TRAIN"))
    assert not sets["val"] & sets["train"]


def test_no_validation_at_all(open_data):
    data = open_data(val_split=0, normalise="standard")
    assert len(data.segments["val"]) == 0 and list(data.val_dataloader()) == []


@pytest.fixture(scope="module")
def no_validation(tmp_path_factory):
    return tmp_path_factory.mktemp("no_validation")


@pytest.mark.parametrize("changes", [{}, {"in_memory": False}, {"num_workers": 2}, {"normalise": "standard"}])
@pytest.mark.parametrize("val_split", ["VAL", 0])
def test_mini_without_validation_movies(no_validation, val_split, changes):
    mini = {**SETTINGS, "train_movies": 1, "val_movies": 0}
    data = Descriptions(**{**KEYWORDS, **changes, "val_split": val_split}, root=str(no_validation), mini=mini)
    data.prepare_data()
    data.setup()
    assert len(data.segments["val"]) == 0 and list(data.val_dataloader()) == []
    assert len(data.val_dataloader()) == 0 and len(data.segments["train"]) == 20 and len(data.segments["test"]) == 40
    sampler = Unrepeated(data.segments["val"], 4, 3, 1)
    assert len(sampler) == 0 and list(sampler) == []


@pytest.mark.parametrize("segments, warned", [(1, True), (15, True), (16, False)])
def test_too_few_segments_for_recall_are_named(tmp_path, caplog, segments, warned):
    mini = {**SETTINGS, "train_movies": 1, "segments": segments}
    with caplog.at_level(logging.WARNING):
        data = Descriptions(**KEYWORDS, root=str(tmp_path), mini=mini)
        data.prepare_data()
        data.setup()
    message = (
        f"no test movie has 16 segments, the longest has {segments}: there is no recall within 16 neighbours. "
        f"data.mini.segments={segments} is below 16."
    )
    assert (message in caplog.text) == warned
    assert len(first_batch(data)["text"]) == min(2 * segments, 16)


def test_evaluation_movies_in_a_named_val_list_are_not_validated_on(open_data, folder):
    lists = json.loads((folder / FILES.split).read_text())
    (folder / FILES.split).write_text(json.dumps({**lists, "V1-VAL": lists["VAL"] + lists["EVAL"]}))
    assert set(open_data(val_split="V1-VAL").segments["val"].movie) == set(lists["VAL"])


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_evaluation_across_ranks_repeats_nothing(open_data, ranks):
    segments = open_data().segments["test"]
    parts = [list(Unrepeated(segments, 3, ranks, rank)) for rank in range(ranks)]
    assert sorted(index for part in parts for index in part) == list(range(len(segments)))


# Pickling


def test_a_data_set_pickles_after_its_file_was_opened(open_data):
    segments = open_data(in_memory=False).segments["test"]
    before = segments[3]
    assert segments.video.features._file is not None
    copy = pickle.loads(pickle.dumps(segments))
    assert copy.video.features._file is None
    assert torch.equal(copy[3]["video"], before["video"])
