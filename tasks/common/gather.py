"""What ranks tell each other: rows, each example once, in one order; an answer; how many items each has in a batch."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch.distributed
from torch import Tensor

from tasks.common.errors import OtherRankError

Answer = TypeVar("Answer")


def gather_rows(rows: list[dict], key: str, places: Sequence[int] = ()) -> list[dict]:
    """The `rows` of all ranks; of those that share `rows[i][key]` only the first is kept.

    places: the place of each row among those of all ranks; rows without one come last, rank by rank. A single process
    keeps its order.
    """
    if several_ranks():
        mine = [*places[: len(rows)], *[math.inf] * (len(rows) - len(places))]
        parts: list[list[tuple[float, dict]] | None] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, list(zip(mine, rows, strict=True)))
        rows = [row for _, row in sorted((pair for part in parts for pair in part), key=lambda pair: pair[0])]
    unique: dict = {}
    for row in rows:
        unique.setdefault(row[key], row)
    return list(unique.values())


def on_first_rank(compute: Callable[[], Answer]) -> Answer:
    """Returns on every rank what `compute()` returns on rank 0; it must be picklable. All ranks call this function.

    An error on rank 0 is raised there, and on the others as an OtherRankError with its message, so that none waits for
    it.
    """
    if not several_ranks():
        return compute()
    answer, error = None, None
    if torch.distributed.get_rank() == 0:
        try:
            answer = compute()
        except Exception as raised:  # of any kind: the other ranks must get it before it is raised below
            error = raised
    parcel = [answer, None if error is None else f"{type(error).__name__}: {error}"]
    torch.distributed.broadcast_object_list(parcel, src=0)
    if error is not None:
        raise error
    if parcel[1] is not None:
        raise OtherRankError(f"rank 0 failed with {parcel[1]}")
    return parcel[0]


def share_of_items(count: Tensor | int) -> Tensor | float:
    """R n_r / (n_1 + ... + n_R) on rank r of R, which has n_r = `count` items in its batch; 1 in a single process.

    A rank whose loss is a mean over its own items (words, matched spans) multiplies it by this. The mean over ranks,
    which is what DDP and FSDP take of gradients, is then the mean over the items of all ranks. All ranks call this
    function.
    """
    if not several_ranks():
        return 1.0
    mine = torch.as_tensor(count, dtype=torch.float64, device=device_of_ranks())
    total = mine.clone()
    torch.distributed.all_reduce(total)
    return torch.distributed.get_world_size() * mine / total.clamp(min=1)


def mean_of_ranks(value: Tensor) -> Tensor:
    """The mean of the ranks' scalars, without a gradient. All ranks call this function."""
    mean = value.detach().clone()
    if several_ranks():
        torch.distributed.all_reduce(mean)
        mean /= torch.distributed.get_world_size()
    return mean


def largest(number: int) -> int:
    """The largest `number` of all ranks, which all call this function."""
    if not several_ranks():
        return number
    found = torch.tensor(number, device=device_of_ranks())
    torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
    return int(found)


def place_among_ranks() -> tuple[int, int]:
    """This process's rank, and how many there are: (0, 1) for a single process."""
    return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if several_ranks() else (0, 1)


def device_of_ranks() -> torch.device:
    """A device whose tensors the ranks can exchange: NCCL knows those of GPUs only."""
    return torch.device("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")


def several_ranks() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
