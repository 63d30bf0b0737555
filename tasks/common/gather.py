"""Rows of all ranks in one place, each example once (samplers repeat some to give every rank as many), and back."""

from collections.abc import Callable
from typing import TypeVar

import torch.distributed

Answer = TypeVar("Answer")


def gather_rows(rows: list[dict], key: str) -> list[dict]:
    """All ranks' `rows`, the first of those that share `rows[i][key]`; the rows themselves in a run of one process."""
    if several_ranks():
        parts: list[list[dict] | None] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, rows)
        rows = [row for part in parts for row in part]
    unique: dict = {}
    for row in rows:
        unique.setdefault(row[key], row)
    return list(unique.values())


def on_first_rank(compute: Callable[[], Answer]) -> Answer:
    """What `compute()` returns on rank 0, on every rank; it must be picklable. All ranks call this, rank 0 computes.

    An error on rank 0 is raised there, and on the others as a RuntimeError that tells it: nobody waits for the dead.
    """
    if not several_ranks():
        return compute()
    answer, error = None, None
    if torch.distributed.get_rank() == 0:
        try:
            answer = compute()
        except Exception as raised:  # of whatever kind: the other ranks must hear of it before it is raised below
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
