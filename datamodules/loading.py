"""Batches without a collate step, orders that a resumed run continues, evaluation that sees every sample once."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler


class Unrepeated(DistributedSampler):
    """Rank r of R gets batches r, r + R, ... of those that one process would have; nothing is repeated.

    So a batch holds the same samples for any number of ranks, and its padding, its losses and what a model says of it
    are the same too. A rank may have one batch less than another, or none; `most` is how many the first one has. It is
    a DistributedSampler by type, so that Lightning does not replace it with its own, which pads by repetition.
    """

    def __init__(self, dataset: Dataset, batch_size: int, num_replicas: int | None = None, rank: int | None = None):
        super().__init__(dataset, num_replicas, rank, shuffle=False)
        starts = range(self.rank * batch_size, len(dataset), self.num_replicas * batch_size)
        self.samples = [sample for start in starts for sample in range(len(dataset))[start : start + batch_size]]
        self.num_samples, self.total_size = len(self.samples), len(dataset)
        self.most = -(-len(dataset) // (self.num_replicas * batch_size))
        self.batches = -(-len(self.samples) // batch_size)  # of this rank

    def __iter__(self) -> Iterator[int]:
        return iter(self.samples)

    def __len__(self) -> int:
        """At least 1 if there are samples at all: Lightning leaves out the hooks of a rank that has no batch, and in
        them all ranks meet."""
        return max(self.num_samples, min(1, self.total_size))


class Draw(NamedTuple):
    """A sample, and what its random choices depend on besides itself."""

    index: int
    epoch: int
    seed: int
    copy: int = 0  # of a sample that comes several times in an epoch


class Draws(DistributedSampler):
    """A permutation of the samples that depends on (seed, epoch) alone, as `Draw`s; rank r of R gets every R-th.

    So the batches of all ranks are together the batch of one process that is R times as large. All ranks get the same
    number of samples: if R does not divide the number of samples, the last ones of the permutation are left out. Only
    of fewer than R samples some come twice. Lightning calls `set_epoch`, and does not replace the sampler since it is a
    DistributedSampler by type; a loop of your own calls `loader.sampler.set_epoch(epoch)`.
    """

    def __init__(self, dataset: Dataset, seed: int, num_replicas: int = 1, rank: int = 0):
        whole = len(dataset) >= num_replicas
        super().__init__(dataset, num_replicas, rank, shuffle=True, seed=seed, drop_last=whole)
        self.skip = 0  # samples of this rank that the next pass leaves out, once

    def __iter__(self) -> Iterator[Draw]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.dataset))
        order = np.resize(order, self.total_size)[self.rank :: self.num_replicas]
        skip, self.skip = self.skip, 0
        return iter([Draw(index, self.epoch, self.seed) for index in order[skip:].tolist()])


class Resumable(DataLoader):
    """A loader of `Draws`. A run that stopped within an epoch resumes after its last batch.

    Lightning keeps its state in the checkpoint. Reading begins with the first batch that is asked for: by then
    Lightning has set the epoch, which is too late for workers that read ahead.
    """

    given = 0  # batches of this pass that were handed out
    stopped: dict[str, int] | None = None  # the state of the run that is resumed

    @property
    def epoch(self) -> int:
        return getattr(self.sampler, "epoch", 0)  # Lightning puts another sampler in its place for overfit_batches

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "batches": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.stopped = state

    def __iter__(self) -> Iterator:
        self.given, stopped, self.stopped = 0, self.stopped, None
        if stopped and stopped["epoch"] == self.epoch and isinstance(self.sampler, Draws):
            self.given = stopped["batches"] % len(self)
            self.sampler.skip = self.given * self.batch_size
        for batch in super().__iter__():
            self.given += 1
            yield batch


def whole(batch):
    """collate_fn of data sets whose `__getitems__` already returns the batch."""
    return batch


def ranks() -> tuple[int, int]:
    """Number of processes that train together, and this one's place among them."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size(), dist.get_rank()
    return 1, 0


def own_generator() -> torch.Generator:
    """For a loader's own draws (its workers' seeds): from torch's global generator they would shift the dropout of a
    run that is resumed or has other workers."""
    return torch.Generator().manual_seed(torch.initial_seed())


def loader(dataset: Dataset, batch_size: int, *, workers: int, draws: Draws | None = None) -> DataLoader:
    """A loader of a data set whose `__getitems__` returns batches.

    For training, samples come in the order of `draws`, and the last short batch is left out (unless it is the only
    one). For evaluation (no draws) they come in order, and `Unrepeated` shares them among the ranks.
    """
    if draws is not None:
        kind, sampler = Resumable, draws
    else:
        kind, sampler = DataLoader, Unrepeated(dataset, batch_size) if ranks()[0] > 1 else None
    return kind(
        dataset,
        batch_size,
        sampler=sampler,
        drop_last=draws is not None and len(draws) >= batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=whole,
        generator=own_generator(),
    )
