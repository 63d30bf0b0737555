"""Two ranks on this machine, which meet in a file, so that no port is taken."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch


def on_two_ranks(main: Callable[..., None], folder: Path, *others: object) -> None:
    """Runs `main(rank, folder, *others)` in two processes of one gloo group; an error in either of them is raised.

    They are forked: to import torch and transformers in fresh processes takes longer than all that these tests do.
    """
    torch.multiprocessing.start_processes(in_group, (main, folder, others), nprocs=2, start_method="fork")


def in_group(rank: int, main: Callable[..., None], folder: Path, others: tuple) -> None:
    # torch makes a forked process's thread pool at its first use; of several threads at once, such as those that load
    # weights, one may find none and fail
    torch.set_num_threads(1)
    meeting = {"init_method": f"file://{folder}/meet", "rank": rank, "world_size": 2}
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=60), **meeting)
    main(rank, folder, *others)
    torch.distributed.destroy_process_group()
