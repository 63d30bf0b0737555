"""The moments datamodule on small files in the official layout: the batch contract, moments alone, real annotations."""

import copy
import pickle

import numpy as np
import pytest
import torch

from datamodules.moment_retrieval.annotations import check_splits, read_moments
from datamodules.moment_retrieval.labels import annotated_saliency, moment_spans
from tests.datamodules.moment_retrieval.small import (
    ANNOTATIONS,
    LABELS,
    TEXT,
    WIDTHS,
    batches,
    by_qid,
    expected_text,
    expected_video,
    open_set,
    read_lines,
    write_features,
    write_lines,
    write_set,
)  # fmt: skip
from tests.parity import QVHIGHLIGHTS, needs_qvhighlights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small set; do not write here."""
    return write_set(tmp_path_factory.mktemp("moments") / "set")


# The contract


@pytest.mark.parametrize("split, size", [("train", 4), ("val", 5), ("test", 5)])
def test_batch_contract(folder, split, size):
    batch = batches(open_set(folder), split)[0]
    assert list(batch) == ["video", "video_keep", "text", "text_keep", "spans", "annotation", *LABELS]
    clips, tokens = batch["video_keep"].sum(1), batch["text_keep"].sum(1)
    for name, keep, counts, width in (("video", "video_keep", clips, 14), ("text", "text_keep", tokens, TEXT)):
        assert batch[name].shape == (size, counts.max(), width) and batch[name].dtype == torch.float32
        assert batch[keep].shape == batch[name].shape[:2] and batch[keep].dtype == torch.bool
        assert batch[keep].tolist() == [[i < n for i in range(counts.max())] for n in counts.tolist()]
        assert (batch[name][~batch[keep]] == 0).all() and counts.min() >= 1
    assert clips.max() <= 12 and tokens.max() <= 6
    assert len(batch["spans"]) == len(batch["annotation"]) == size
    for spans in batch["spans"]:
        assert spans.dtype == torch.float32 and spans.shape[1] == 2 and len(spans) <= 2
        assert (spans >= 0).all() and (spans <= 1).all() and (spans[:, 1] > 0).all()
    assert batch["saliency"].shape == batch["video_keep"].shape and batch["saliency"].dtype == torch.float32
    assert (batch["saliency"][~batch["video_keep"]] == 0).all() and batch["saliency"].max() <= 12
    for key in LABELS[1:]:
        assert batch[key].shape == (size, 2) and batch[key].dtype == torch.int64
        assert (batch[key] >= 0).all() and (batch[key] < clips[:, None]).all()


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("tef", [True, False])
def test_features_are_those_of_the_files(folder, in_memory, tef):
    data = open_set(folder, in_memory=in_memory, tef=tef)
    for split in ANNOTATIONS:
        found = by_qid(batches(data, split))
        for row in data.annotations(split):
            if row["qid"] not in found:
                continue  # of the training split's last short batch
            expected = expected_video(folder, row["vid"], tef=tef)
            assert found[row["qid"]]["video"] == pytest.approx(np.array(expected), abs=1e-6)
            assert found[row["qid"]]["text"] == pytest.approx(np.array(expected_text(folder, row["qid"])), abs=1e-6)


def test_videos_that_are_cut_and_short_ones_are_among_them(folder):
    """The other tests see both sides of every limit."""
    rows = [row for name in ANNOTATIONS.values() for row in read_lines(folder / name)]
    clips = {row["duration"] // 2 for row in rows}
    assert min(clips) <= 2 and max(clips) > 12 and 12 in clips
    assert {len(row["relevant_windows"]) for row in rows} >= {1, 2, 3}


def test_a_sample_is_the_same_alone_and_in_a_batch(folder):
    together = by_qid(batches(open_set(folder), "test"))
    alone = by_qid(batches(open_set(folder, eval_batch_size=1), "test"))
    assert together == alone


def test_evaluation_is_in_the_order_of_the_file(folder):
    data = open_set(folder)
    for split in ("val", "test"):
        found = [row for batch in batches(data, split) for row in batch["annotation"]]
        assert found == read_lines(folder / ANNOTATIONS[split]) == data.annotations(split)


def test_facts(folder):
    facts = open_set(folder).facts()
    assert facts == {
        "video_dim": 14, "text_dim": 6, "clips": 12, "tokens": 6, "clip_length": 2.0, "duration": 24.0,
        "saliency": True, "streams": WIDTHS, "tef": True,
    }  # fmt: skip
    plain = open_set(folder, tef=False, saliency="none").facts()
    assert plain == {**facts, "video_dim": 12, "saliency": False, "tef": False}


def test_a_third_stream_of_npy_files_and_a_stream_left_out(folder, tmp_path):
    rows = [row for name in ANNOTATIONS.values() for row in read_lines(folder / name)]
    for name in (*ANNOTATIONS.values(), "slow", "clip", "text"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "sound").mkdir()
    for row in rows:
        clips = row["duration"] // 2
        np.save(tmp_path / "sound" / f"{row['vid']}.npy", np.full((clips + 1, 3), 2.0))  # a clip longer: cut
    streams = {"clip": {"dim": 5}, "slow": None, "sound": {"dim": 3, "file": "{vid}.npy"}}
    data = open_set(tmp_path, video_streams=streams)
    batch = batches(data, "test")[0]
    assert batch["video"].shape[-1] == 5 + 3 + 2 == data.facts()["video_dim"]
    whole = batches(open_set(folder), "test")[0]
    assert torch.equal(batch["video"][..., :5], whole["video"][..., 7:12])
    assert batch["video"][batch["video_keep"]][:, 5:8].numpy() == pytest.approx(3**-0.5, abs=1e-4)
    assert torch.equal(batch["video"][..., 8:], whole["video"][..., 12:])


def test_annotations_never_change(folder):
    data = open_set(folder)
    before = copy.deepcopy({split: data.annotations(split) for split in ANNOTATIONS})
    for epoch in range(3):
        for split in ANNOTATIONS:
            batches(data, split, epoch)
    assert before == {split: data.annotations(split) for split in ANNOTATIONS}
    assert before == {split: read_lines(folder / name) for split, name in ANNOTATIONS.items()}


def test_moving_a_batch_moves_every_tensor_and_leaves_the_annotations(folder):
    data = open_set(folder)
    batch = batches(data, "test")[0]
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert list(moved) == list(batch) and moved["annotation"] is batch["annotation"]
    tensors = [value for value in moved.values() if torch.is_tensor(value)] + moved["spans"]
    assert len(tensors) == 7 + 5 and all(tensor.device.type == "meta" for tensor in tensors)


def test_it_pickles_for_workers_that_are_spawned(folder):
    data = open_set(folder, in_memory=False)
    copied = pickle.loads(pickle.dumps(data.moments["test"]))
    assert copied[3]["annotation"] == data.moments["test"][3]["annotation"]
    assert torch.equal(copied[3]["video"], data.moments["test"][3]["video"])


# Moments alone


def charades(tmp_path):
    """One window in tenths of seconds, durations that are not whole numbers, no saliency."""
    rng = np.random.default_rng(0)
    qid = 0
    for split, name in ANNOTATIONS.items():
        rows = []
        for i in range(6):
            duration = round(float(rng.uniform(5, 11)), 2)
            start = round(float(rng.uniform(0, duration - 2)), 1)
            window = [start, round(min(start + float(rng.uniform(0.5, 6)), duration + 0.3), 1)]
            rows.append({"qid": qid, "query": "person opens a door.", "duration": duration, "vid": f"{split}{i}",
                         "relevant_windows": [window]})  # fmt: skip
            qid += 1
        write_lines(tmp_path / name, rows)
        write_features(tmp_path, rows, rng, clip_length=1.0)
    return tmp_path


def test_windows_without_saliency_scores(tmp_path):
    data = open_set(charades(tmp_path), clip_length=1.0, saliency="windows", window_slack=0.5, max_windows=1)
    assert data.facts()["duration"] == 12.0 and data.facts()["saliency"]
    for split in ANNOTATIONS:
        rows = {row["qid"]: row for row in data.annotations(split)}
        for qid, sample in by_qid(batches(data, split)).items():
            clips = len(sample["video"])
            assert clips == int(rows[qid]["duration"])
            ((start, end),) = rows[qid]["relevant_windows"]
            start, end = (min(edge, clips) / clips for edge in (start, end))
            assert sample["spans"] == [pytest.approx([(start + end) / 2, end - start], abs=1e-6)]
            assert set(sample["saliency"]) <= {0.0, 1.0}
            assert all(sample["saliency"][clip] == 1 for clip in sample["saliency_pos"])
            if 0.0 in sample["saliency"]:
                assert all(sample["saliency"][clip] == 0 for clip in sample["saliency_neg"])


def test_no_saliency_at_all(tmp_path):
    data = open_set(charades(tmp_path), clip_length=1.0, saliency="none", window_slack=0.5)
    assert data.facts()["saliency"] is False
    for split in ANNOTATIONS:
        assert not set(LABELS) & set(batches(data, split)[0])


def test_validation_and_test_may_be_one_file(folder):
    data = open_set(folder, val_annotations=ANNOTATIONS["test"])
    assert data.annotations("val") == data.annotations("test")


def test_a_test_split_without_answers_is_read_for_predictions(folder, tmp_path, caplog):
    for name in ("train.jsonl", "val.jsonl", "slow", "clip", "text"):
        (tmp_path / name).symlink_to(folder / name)
    keys = ("qid", "query", "duration", "vid")
    rows = [{key: row[key] for key in keys} for row in read_lines(folder / "test.jsonl")]
    write_lines(tmp_path / "test.jsonl", rows)
    batch = batches(open_set(tmp_path), "test")[0]
    assert "test.jsonl has no windows: predictions of the test split cannot be scored" in caplog.text
    assert not set(LABELS) & set(batch) and [len(spans) for spans in batch["spans"]] == [0] * 5
    assert batch["annotation"] == rows[:5]


# The real annotations


@needs_qvhighlights
def test_the_real_annotations_are_read_whole():
    files = {"train": "highlight_train_release.jsonl", "val": "highlight_val_release.jsonl",
             "test": "highlight_test_with_gt.jsonl"}  # fmt: skip
    rows = {split: read_moments(QVHIGHLIGHTS / name, clip_length=2.0, saliency=True) for split, name in files.items()}
    check_splits(rows, files)
    assert {split: len(found) for split, found in rows.items()} == {"train": 7218, "val": 1550, "test": 1542}
    assert {split: len({row["vid"] for row in found}) for split, found in rows.items()} == {
        "train": 7100, "val": 1519, "test": 1529
    }  # fmt: skip
    assert sum(len(row["relevant_windows"]) > 5 for row in rows["train"]) == 261
    rng = np.random.default_rng(0)
    alike = 0
    for row in rows["train"]:
        clips = row["duration"] // 2
        spans = moment_spans(row["relevant_windows"], clips, 2.0, 5, rng)
        assert len(spans) == min(5, len(row["relevant_windows"]))
        _, more, less = annotated_saliency(row["relevant_clip_ids"], row["saliency_scores"], clips, rng)
        alike += len(row["relevant_clip_ids"]) == clips and more[0] == more[1] and less[0] == less[1]
    assert alike == 302


@needs_qvhighlights
def test_real_rows_with_features_of_their_sizes_make_batches(tmp_path):
    """Some real rows of each split, the hard ones among them, through the datamodule at the real widths."""
    rng = np.random.default_rng(0)
    for split, name in (("train", "train_release"), ("val", "val_release"), ("test", "test_with_gt")):
        rows = read_lines(QVHIGHLIGHTS / f"highlight_{name}.jsonl")
        rows.sort(key=lambda row: (-len(row["relevant_windows"]), row["duration"]))
        write_lines(tmp_path / ANNOTATIONS[split], rows[:4] + rows[-3:])
        write_features(tmp_path, rows[:4] + rows[-3:], rng, widths={"slow": 2304, "clip": 512}, text=512)
    streams = {"slow": {"dim": 2304}, "clip": {"dim": 512}}
    data = open_set(
        tmp_path, video_streams=streams, text_stream={"path": "text", "dim": 512}, max_clips=75, max_tokens=32,
        max_windows=5, batch_size=7,
    )  # fmt: skip
    (batch,) = data.train_dataloader()
    assert batch["video"].shape[0] == 7 and batch["video"].shape[2] == 2818 and batch["text"].shape[2] == 512
    assert batch["video_keep"].sum(1).tolist() == [row["duration"] // 2 for row in batch["annotation"]]
    assert [len(spans) for spans in batch["spans"]] == [min(5, len(r["relevant_windows"])) for r in batch["annotation"]]
    assert max(len(row["relevant_windows"]) for row in batch["annotation"]) > 5
