"""Rows of all ranks in one place, each example once: samplers repeat some to give every rank as many."""

import torch.distributed


def gather_rows(rows: list[dict], key: str) -> list[dict]:
    """All ranks' `rows`, the first of those that share `rows[i][key]`; the rows themselves in a run of one process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts: list[list[dict] | None] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, rows)
        rows = [row for part in parts for row in part]
    unique: dict = {}
    for row in rows:
        unique.setdefault(row[key], row)
    return list(unique.values())
