"""The metrics over batches and over ranks are those of all rows at once."""

import json
import math

import numpy as np
import pytest
import torch

from tasks.moment_retrieval.metrics import MomentMetrics, evaluate
from tasks.moment_retrieval.submission import SubmissionError
from tests.ranks import on_two_ranks
from tests.tasks.moment_retrieval.literal_metrics import truth_row


def scene(qid):
    """A row with truth and prediction whose figures differ from its neighbours'."""
    random = np.random.default_rng(qid)
    start = random.uniform(0, 40, 4)
    row = truth_row(qid, duration=60, relevant_windows=[[float(start[0]), float(start[0] + random.uniform(4, 20))]])
    row["relevant_clip_ids"] = random.permutation(30)[:5].tolist()
    row["saliency_scores"] = random.integers(0, 5, (5, 3)).tolist()
    row["pred_relevant_windows"] = np.stack([start, start + 12, random.random(4)], 1)[: random.integers(0, 5)]
    row["pred_saliency_scores"] = torch.tensor(random.random(30))
    return row


def test_batches_give_what_all_rows_at_once_give():
    rows = [scene(qid) for qid in range(23)]
    metric = MomentMetrics(max_windows=3)
    for first in range(0, 23, 5):
        metric.update(rows[first : first + 5])
    metric.update(rows[:2])  # a sampler's repetition
    metric.to(torch.float64).to("cpu")
    assert metric.compute() == evaluate(rows, rows, max_windows=3)
    metric.reset()
    metric.update(rows[:7])
    assert metric.compute() == evaluate(rows[:7], rows[:7], max_windows=3)


def test_forward_gives_the_batchs_figures_and_keeps_the_rest():
    rows = [scene(qid) for qid in range(9)]
    metric = MomentMetrics()
    assert metric(rows[:4]) == evaluate(rows[:4], rows[:4])
    assert metric(rows[4:]) == evaluate(rows[4:], rows[4:])
    assert metric.compute() == evaluate(rows, rows)


def test_a_bad_row_is_named_when_computed():
    metric = MomentMetrics()
    metric.update([scene(3) | {"pred_saliency_scores": [math.nan] * 30}])
    with pytest.raises(SubmissionError, match=r"qid 3, vid 'video3'.*pred_saliency_scores has nan"):
        metric.compute()


SHARES = {  # what either of two ranks gets, batch by batch: uneven, overlapping, nothing
    "overlapping": ([range(0, 5), range(5, 11)], [range(9, 13)]),
    "empty": ([], [range(0, 4), range(4, 5)]),
}


def rank_main(rank, folder):
    metrics = {}
    for name, shares in SHARES.items():
        metric = MomentMetrics(decimals=None)
        for batch in shares[rank]:
            metric.update([scene(qid) for qid in batch])
        metrics[name] = metric.compute()
        kept = {qid for qid, _ in metric.rows}  # the other rank's rows are gone again
        assert kept == {qid for batch in shares[rank] for qid in batch}
    (folder / f"{rank}.json").write_text(json.dumps(metrics))


def test_two_ranks_with_uneven_overlapping_shares_score_as_one_process(tmp_path):
    on_two_ranks(rank_main, tmp_path)
    per_rank = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert per_rank[0] == per_rank[1]
    for name, count in (("overlapping", 13), ("empty", 5)):
        rows = [scene(qid) for qid in range(count)]
        assert per_rank[0][name] == evaluate(rows, rows, decimals=None)
        assert per_rank[0][name] == evaluate(rows[::-1], rows[::-1], decimals=None)
