"""Spans and saliency labels, and what their random choices depend on."""

from collections import Counter

import numpy as np
import pytest
import torch

from datamodules.loading import Draw, Draws
from datamodules.moment_retrieval.labels import annotated_saliency, moment_spans, window_saliency
from tests.datamodules.moment_retrieval.small import ANNOTATIONS, batches, by_qid, open_set, write_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small set; do not write here."""
    return write_set(tmp_path_factory.mktemp("moments") / "set")


def literal_spans(row, clips, most):
    """Every span that the windows could give, cut at the last clip, one by one."""
    total = 2.0 * clips
    spans = []
    for start, end in row["relevant_windows"]:
        start, end = min(start, total), min(end, total)
        if end > start:
            spans.append([(start + end) / 2 / total, (end - start) / total])
    return spans


def test_spans_are_the_windows_as_parts_of_the_clips(folder):
    data = open_set(folder)
    seen = Counter()
    for split in ANNOTATIONS:
        rows = {row["qid"]: row for row in data.annotations(split)}
        for qid, sample in by_qid(batches(data, split)).items():
            expected = literal_spans(rows[qid], len(sample["video"]), 2)
            if len(rows[qid]["relevant_windows"]) <= 2:
                assert sample["spans"] == [pytest.approx(span, abs=1e-6) for span in expected]
                seen["all"] += 1
            else:
                assert len(sample["spans"]) <= 2
                for span in sample["spans"]:
                    assert any(span == pytest.approx(other, abs=1e-6) for other in expected)
                seen["some"] += 1
    assert min(seen["all"], seen["some"]) >= 3


def test_saliency_labels_are_the_best_and_worst_and_random_clips(folder):
    data = open_set(folder)
    rows = {row["qid"]: row for split in ANNOTATIONS for row in data.annotations(split)}
    checked = 0
    for split in ANNOTATIONS:
        for qid, sample in by_qid(batches(data, split)).items():
            clips = len(sample["video"])
            sums = {
                clip: sum(scores)
                for clip, scores in zip(rows[qid]["relevant_clip_ids"], rows[qid]["saliency_scores"], strict=True)
                if clip < clips
            }
            assert sample["saliency"] == [sums.get(clip, 0) for clip in range(clips)]
            (best, some), (worst, other) = sample["saliency_pos"], sample["saliency_neg"]
            if not sums:
                assert (best, some, worst, other) == (0, 0, 0, 0)
                continue
            assert sums[best] == max(sums.values()) and sums[worst] == min(sums.values())
            assert some in sums
            assert other not in sums if len(sums) < clips else (some, other) == (best, worst)
            checked += 1
    assert checked > 15


def test_a_query_whose_every_clip_is_relevant_repeats_the_first_pair():
    rng = np.random.default_rng(0)
    total, more, less = annotated_saliency([0, 1, 2], [[4, 4], [0, 1], [2, 2]], 3, rng)
    assert (total.tolist(), more.tolist(), less.tolist()) == ([8, 1, 4], [0, 0], [1, 1])


def test_window_saliency_by_hand():
    rng = np.random.default_rng(0)
    for _ in range(20):
        total, more, less = window_saliency([[2.0, 6.5], [9.2, 9.7]], 12, 1.0, rng)
        assert total.tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0]
        assert set(more) <= {2, 3, 4, 5, 9} and len(set(more)) == 2
        assert set(less) <= {0, 1, 6, 7, 8, 10, 11} and len(set(less)) == 2


@pytest.mark.parametrize(
    "windows, clips, more, less",
    [
        ([[0.0, 4.0]], 2, {0, 1}, {0, 1}),  # all inside: nothing to compare with
        ([[0.0, 2.0]], 2, {0}, {1}),  # one of each
        ([[30.0, 40.0]], 2, {0}, {0}),  # the window is past the last clip
        ([], 3, {0}, {0}),
    ],
)
def test_window_saliency_where_there_is_nothing_to_draw(windows, clips, more, less):
    _, pos, neg = window_saliency(windows, clips, 2.0, np.random.default_rng(0))
    assert len(pos) == len(neg) == 2 and set(pos) == more and set(neg) == less
    if more == less:
        assert pos.tolist() == neg.tolist()


def test_windows_past_the_last_clip_leave_no_span():
    spans = moment_spans([[0, 4], [22, 30], [26, 28]], 12, 2.0, 5, np.random.default_rng(0))
    assert spans.tolist() == [pytest.approx([2 / 24, 4 / 24]), pytest.approx([23 / 24, 2 / 24])]
    assert moment_spans([], 12, 2.0, 5, np.random.default_rng(0)).shape == (0, 2)


# What the random choices depend on


def drawn(data, epochs=(0,), split="train"):
    return [by_qid(batches(data, split, epoch)) for epoch in epochs]


def test_labels_follow_seed_epoch_and_qid_and_not_the_workers(folder):
    torch.manual_seed(3)
    alone = drawn(open_set(folder), (0, 1))
    assert alone == drawn(open_set(folder, num_workers=2, in_memory=False), (0, 1))
    other_batches = drawn(open_set(folder, batch_size=1), (0,))[0]
    assert {qid: other_batches[qid] for qid in alone[0]} == alone[0]
    common = alone[0].keys() & alone[1].keys()
    assert any(alone[0][qid]["spans"] != alone[1][qid]["spans"] for qid in common)
    assert any(alone[0][qid]["saliency_pos"] != alone[1][qid]["saliency_pos"] for qid in common)
    torch.manual_seed(4)
    assert drawn(open_set(folder))[0] != alone[0]


def test_every_window_is_trained_on_sooner_or_later(folder):
    data = open_set(folder, batch_size=1)
    row = max(data.annotations("train"), key=lambda row: len(row["relevant_windows"]) * (row["duration"] <= 24))
    seen = set()
    for epoch in range(40):
        item = Draw(data.annotations("train").index(row), epoch, 0)
        spans = data.moments["train"][item]["spans"][0]
        assert len(spans) == 2 and spans[0, 0] < spans[1, 0]
        seen |= {tuple(span) for span in (spans * row["duration"]).round(decimals=2).tolist()}
    assert len(seen) == len(row["relevant_windows"]) > 2


def test_evaluation_labels_are_those_of_epoch_0_whatever_the_seed(folder):
    torch.manual_seed(0)
    first = drawn(open_set(folder), split="val")
    torch.manual_seed(1)
    assert drawn(open_set(folder), split="val") == first


def test_training_order_is_a_permutation_that_follows_seed_and_epoch(folder):
    data = open_set(folder, batch_size=1)

    def order(seed, epoch):
        torch.manual_seed(seed)
        return [batch["annotation"][0]["qid"] for batch in batches(data, "train", epoch)]

    assert order(0, 0) == order(0, 0)
    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(o) for o in orders}) == 4
    assert all(sorted(o) == list(range(13)) for o in orders)


@pytest.mark.parametrize("count, ranks", [(1, 1), (1, 3), (13, 2), (13, 3), (12, 3), (2, 5)])
def test_ranks_share_the_order_of_one_and_get_equally_many(count, ranks):
    def items(replicas, rank):
        draws = Draws(range(count), 7, replicas, rank)
        draws.set_epoch(2)
        assert len(draws) == len(list(draws))
        return list(draws)

    whole = items(1, 0)
    shares = [items(ranks, rank) for rank in range(ranks)]
    assert sorted(whole) == [Draw(i, 2, 7) for i in range(count)]
    assert {len(share) for share in shares} == {max(count // ranks, 1)}
    joined = [share[i] for i in range(len(shares[0])) for share in shares]
    assert joined[:count] == whole[: len(joined)] and set(joined) <= set(whole)
