"""Rows of all ranks in one place, each example once (samplers repeat some so that ranks get equally many), and back."""

from collections.abc import Callable
from typing import TypeVar

import torch.distributed

Answer = TypeVar("Answer")


def gather_rows(rows: list[dict], key: str) -> list[dict]:
    """The `rows` of all ranks; of those that share `rows[i][key]` only the first is kept."""
    if several_ranks():
        parts: list[list[dict] | None] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, rows)
        rows = [row for part in parts for row in part]
    unique: dict = {}
    for row in rows:
        unique.setdefault(row[key], row)
    return list(unique.values())


def on_first_rank(compute: Callable[[], Answer]) -> Answer:
    """Returns on every rank what `compute()` returns on rank 0; it must be picklable. All ranks call this function.

    An error on rank 0 is raised there, and on the others as a RuntimeError with its message, so that none waits for it.
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
        raise RuntimeError(f"rank 0 failed with {parcel[1]}")
    return parcel[0]


def several_ranks() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
