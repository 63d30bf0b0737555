"""Recurrent evaluation: every segment once, after all that precede it, a movie on one rank."""

import json

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import SequentialSampler

from datamodules.audio_description.recurrent import InStep
from datamodules.errors import DataError
from tests.datamodules.audio_description.small import KEYWORDS


def movies_of(sizes) -> list[str]:
    return [f"m{i}" for i, size in enumerate(sizes) for _ in range(size)]


SIZES = [[], [1], [5], [3, 1], [1, 1, 1], [7, 2, 5, 3, 1], [13, 11, 2, 2, 2, 1, 19]]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_every_segment_once_after_its_predecessors_and_a_movie_on_one_rank(sizes, batch_size, replicas):
    movies = movies_of(sizes)
    if 0 < len(sizes) < replicas:
        with pytest.raises(DataError, match=f"{len(sizes)} movies cannot be shared by {replicas} processes"):
            InStep(movies, batch_size, replicas, 0)
        return
    parts = [list(InStep(movies, batch_size, replicas, rank)) for rank in range(replicas)]
    assert sorted(row for part in parts for batch in part for row in batch) == list(range(len(movies)))
    owners: dict[str, set[int]] = {}
    for rank, part in enumerate(parts):
        place = {row: number for number, batch in enumerate(part) for row in batch}
        for row, number in place.items():
            owners.setdefault(movies[row], set()).add(rank)
            assert all(place[other] < number for other in range(row) if movies[other] == movies[row])
        assert all(1 <= len(batch) <= batch_size for batch in part)
    assert all(len(ranks) == 1 for ranks in owners.values()) and len(owners) == len(sizes)


@pytest.mark.parametrize("rank", [0, 1])
def test_its_length_is_the_number_of_its_batches(rank):
    sampler = InStep(movies_of([7, 2, 5, 3]), 2, 2, rank)
    assert len(sampler) == len(list(sampler)) == len(list(sampler))


def test_the_j_th_segments_come_together():
    assert InStep(movies_of([3, 3]), 8).batches == [[0, 3], [1, 4], [2, 5]]


def test_places_are_filled_as_movies_end():
    """10 movies as long as MAD-eval's, in 8 places."""
    sizes = np.random.default_rng(0).integers(437, 899, 10)
    batches = InStep(movies_of(sizes), 8).batches
    together = [max(group) for group in (sizes[:8], sizes[8:])]
    assert max(sizes.max(), sizes.sum() / 8) <= len(batches) < sum(together)


def test_ranks_get_about_equally_many_segments():
    movies = movies_of([9, 8, 7, 6, 5, 4, 3])
    shares = [sum(map(len, InStep(movies, 4, 3, rank))) for rank in range(3)]
    assert sum(shares) == 42 and max(shares) - min(shares) <= 4


@pytest.mark.parametrize("changes", [{}, {"num_workers": 2, "in_memory": False}, {"eval_batch_size": 1}])
def test_predicted_evaluation_has_the_segments_of_the_usual_one(open_data, changes):
    usual = {}
    for batch in open_data().test_dataloader():
        for i, name in enumerate(batch["ann_id"]):
            usual[name] = batch["video"][i], batch["text"][i], batch["start"][i]
    loader = open_data(previous="predicted", **changes).test_dataloader()
    seen: dict[str, float] = {}
    names = []
    for batch in loader:
        assert len(set(batch["movie"])) == len(batch["movie"]) and batch["previous"] == [[] for _ in batch["movie"]]
        for i, (name, movie) in enumerate(zip(batch["ann_id"], batch["movie"], strict=True)):
            video, text, start = usual[name]
            assert torch.equal(batch["video"][i], video) and batch["text"][i] == text and batch["start"][i] == start
            assert seen.get(movie, -1.0) < start
            seen[movie] = float(start)
            names.append(name)
    assert sorted(names) == sorted(usual)
    assert len(loader) == (20 if changes.get("eval_batch_size") != 1 else 40)


def test_predicted_trains_shuffled_and_with_the_true_descriptions(open_data):
    batch = next(iter(open_data(previous="predicted").train_dataloader()))
    assert len(batch["text"]) == 8 and any(batch["previous"])


def test_no_validation_at_all_is_no_batch(open_data):
    loader = open_data(previous="predicted", val_split=0).val_dataloader()
    assert len(loader) == 0 and list(loader) == []


class Recorder(pl.LightningModule):
    """Keeps the ids of every test batch; writes them to one file per rank."""

    def __init__(self, path):
        super().__init__()
        self.path, self.weight, self.seen = path, torch.nn.Parameter(torch.zeros(1)), []

    def test_step(self, batch, index):
        self.seen.append([[movie, float(start)] for movie, start in zip(batch["movie"], batch["start"], strict=True)])

    def validation_step(self, batch, index):
        self.test_step(batch, index)

    def on_test_end(self):
        (self.path / f"rank{self.global_rank}.json").write_text(json.dumps(self.seen))


QUIET = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}


def test_lightning_leaves_the_order_as_it_is(open_data, tmp_path):
    module, data = Recorder(tmp_path), open_data(previous="predicted")
    pl.Trainer(devices=1, enable_checkpointing=False, default_root_dir=tmp_path, **QUIET).test(
        module, data, verbose=False
    )
    expected = InStep(data.segments["test"].movie, KEYWORDS["eval_batch_size"]).batches
    assert [[movie for movie, _ in batch] for batch in module.seen] == [
        [data.segments["test"].movie[row] for row in batch] for batch in expected
    ]


def test_a_sampler_that_goes_one_by_one_gives_batches_of_one(open_data):
    """Lightning uses one for overfit_batches."""
    segments = open_data(previous="predicted").segments["val"]
    batch = segments[next(iter(SequentialSampler(segments)))]
    assert len(batch["text"]) == len(batch["previous"]) == 1


@pytest.mark.slow
def test_two_ranks_share_the_movies_whole(open_data, tmp_path):
    data = open_data(previous="predicted")
    pl.Trainer(
        devices=2, strategy="ddp_fork", enable_checkpointing=False, default_root_dir=tmp_path, **QUIET
    ).test(Recorder(tmp_path), data, verbose=False)  # fmt: skip
    ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    found = [[movie for batch in seen for movie, _ in batch] for seen in ranks]
    assert set(found[0]).isdisjoint(found[1]) and sorted([*found[0], *found[1]]) == sorted(data.segments["test"].movie)
    for seen in ranks:
        starts = [start for batch in seen for _, start in batch]
        assert starts == sorted(starts)  # two movies, one per rank
