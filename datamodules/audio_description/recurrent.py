"""Batches for recurrent inference: a description that reads the model's own last ones must come after them.

    InStep(["a", "a", "a", "b"], batch_size=2).batches     # [[0, 3], [1], [2]]

The j-th segments of several movies come together. Every segment comes once, those of each movie in order and no two of
a movie in one batch, so the predecessors of a batch's segments are all in earlier batches. With several ranks, all
segments of a movie belong to one rank.
"""

from collections.abc import Iterator, Sequence

from torch.utils.data import DataLoader, Dataset, DistributedSampler

from datamodules.errors import DataError
from datamodules.loading import own_generator, ranks, whole


class InStep(DistributedSampler):
    """Yields batches: lists of up to `batch_size` segments of different movies.

    As soon as a movie ends the next takes its place, the longest first, so most batches are full. Ranks get movies of
    about equally many segments; their numbers of batches differ, and `most` is the largest. It is a DistributedSampler
    by type, so that Lightning does not replace it with its own.
    """

    def __init__(self, movies: Sequence[str], batch_size: int, num_replicas: int = 1, rank: int = 0):
        """movies: (S,) the movie of each segment; the segments of a movie are in order. DataError: a rank gets none."""
        super().__init__(movies, num_replicas, rank, shuffle=False)
        rows: dict[str, list[int]] = {}
        for row, movie in enumerate(movies):
            rows.setdefault(movie, []).append(row)
        if 0 < len(rows) < num_replicas:
            raise DataError(
                f"data.previous=predicted: {len(rows)} movies cannot be shared by {num_replicas} processes, and a "
                f"movie belongs to one, whole; evaluate with at most {len(rows)} processes."
            )
        shares: list[list[list[int]]] = [[] for _ in range(num_replicas)]
        for movie in sorted(rows.values(), key=len, reverse=True):
            min(shares, key=lambda share: sum(map(len, share))).append(movie)
        of_ranks = [in_step(share, batch_size) for share in shares]
        self.batches, self.most = of_ranks[rank], max(map(len, of_ranks))
        self.num_samples = self.total_size = len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def in_step(movies: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """The next segment of up to `batch_size` movies at a time; the next movie takes the place of one that ends."""
    waiting, batches = list(map(iter, movies)), []
    while True:
        batch, going = [], []
        while waiting and len(batch) < batch_size:
            movie = waiting.pop(0)
            if (row := next(movie, None)) is not None:
                batch.append(row)
                going.append(movie)
        if not batch:
            return batches
        batches.append(batch)
        waiting = going + waiting


def recurrent_loader(dataset: Dataset, movies: Sequence[str], batch_size: int, *, workers: int) -> DataLoader:
    """Evaluation batches of a data set that is indexed with a list, in recurrent order; only this rank's movies."""
    return DataLoader(
        dataset,
        batch_size=None,  # the sampler's items are batches already
        sampler=InStep(movies, batch_size, *ranks()),
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=whole,
        generator=own_generator(),
    )
