"""Orders of training images that differ from a plain shuffle: by row groups, and each image several times.

GroupShuffle(groups, window=16, seed=0)      # Parquet: every row group is read once an epoch
Repeated(pictures, times=3, seed=0)          # repeated augmentation (arXiv 1901.09335), as DeiT uses it
"""

from collections.abc import Iterator

import numpy as np

from datamodules.loading import Draw, Draws


class GroupShuffle(Draws):
    """Training order that reads every row group once: groups are shuffled, then rows within windows of groups.

    groups (N,): the row group of each sample; window: number of groups that are mixed. A rank gets a run of groups, and
    every rank the same number of samples (if they cannot be divided equally, the last ones are left out). The order
    depends on (seed, epoch) and the number of ranks alone.
    """

    def __init__(self, groups: np.ndarray, window: int, seed: int, num_replicas: int = 1, rank: int = 0):
        super().__init__(groups, seed, num_replicas, rank)
        self.groups, self.window = np.asarray(groups), window

    def order(self) -> np.ndarray:
        """This rank's samples of the epoch, (num_samples,)."""
        rng = np.random.default_rng([self.seed, self.epoch])
        present, number = np.unique(self.groups, return_inverse=True)
        turn = rng.permutation(len(present))[number]  # (N,) when each sample's group comes
        order = np.resize(np.argsort(turn, kind="stable"), self.total_size)
        order = order[self.rank * self.num_samples : (self.rank + 1) * self.num_samples]
        change = np.diff(turn[order], prepend=turn[order[:1]]) != 0
        window = np.cumsum(change) // self.window  # (num_samples,)
        return order[np.lexsort((rng.random(len(order)), window))]

    def __iter__(self) -> Iterator[Draw]:
        skip, self.skip = self.skip, 0
        return iter([Draw(index, self.epoch, self.seed) for index in self.order()[skip:].tolist()])


class Repeated(Draws):
    """An epoch of as many samples as there are images, in which each image that comes comes `times` times, each time
    augmented anew. The copies of an image go to different ranks, or lie beside each other on one.

    The images of an epoch, a `times`-th of all, are the first of a permutation that depends on (seed, epoch) alone.
    """

    def __init__(self, dataset, times: int, seed: int, num_replicas: int = 1, rank: int = 0):
        super().__init__(dataset, seed, num_replicas, rank)
        self.times = times

    def __iter__(self) -> Iterator[Draw]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.dataset))
        images = np.resize(np.repeat(order, self.times), self.total_size)[self.rank :: self.num_replicas]
        copies = np.resize(np.tile(np.arange(self.times), len(order)), self.total_size)[self.rank :: self.num_replicas]
        skip, self.skip = self.skip, 0
        pairs = zip(images.tolist(), copies.tolist(), strict=True)
        return iter([Draw(image, self.epoch, self.seed, copy) for image, copy in pairs][skip:])
