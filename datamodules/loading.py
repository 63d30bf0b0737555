"""Batches without a collate step, and evaluation on several ranks without a sample seen twice."""

from collections.abc import Iterator

from torch.utils.data import DataLoader, Dataset, DistributedSampler


class Unrepeated(DistributedSampler):
    """Rank r of R gets samples r, r + R, ... in order and nothing is repeated, so ranks may differ by one sample.

    A DistributedSampler by type, so that Lightning leaves it in place of its own, which pads by repetition.
    """

    def __init__(self, dataset: Dataset, num_replicas: int | None = None, rank: int | None = None):
        super().__init__(dataset, num_replicas, rank, shuffle=False)
        self.num_samples = len(range(self.rank, len(dataset), self.num_replicas))
        self.total_size = len(dataset)

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank, len(self.dataset), self.num_replicas))


def whole(batch):
    """collate_fn of data sets whose `__getitems__` already returns the batch."""
    return batch


def loader(dataset: Dataset, batch_size: int, *, train: bool, workers: int) -> DataLoader:
    """Training: shuffled by torch's global generator, the last short batch left out (unless it is the only one).

    Evaluation: in order; across ranks by `Unrepeated`.
    """
    import torch.distributed as dist

    distributed = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    return DataLoader(
        dataset,
        batch_size,
        shuffle=train,
        sampler=Unrepeated(dataset) if distributed and not train else None,
        drop_last=train and len(dataset) >= batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=whole,
    )
