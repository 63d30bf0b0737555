"""One seed, one number of threads: the same command twice gives the same numbers."""

import torch
from pytorch_lightning import seed_everything


def seed_run(seed: int | None, threads: int | None = None) -> None:
    """Seeds Python, NumPy, torch and the data workers. Seed 0 is a seed like any other; None sets no seed.

    `threads` pins torch's threads, as the order in which a sum is split over threads changes its last bits.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if seed is not None:
        seed_everything(seed, workers=True, verbose=False)
