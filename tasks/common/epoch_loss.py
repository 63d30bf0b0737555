"""The exact mean of the training loss over an epoch: all its samples, all ranks, all parts of a resumed run."""

from typing import Any

import torch
from torch import Tensor

from tasks.common.gather import several_ranks


class EpochLoss:
    """Sums losses weighted by their batches' sizes. Its state goes into checkpoints, one for each rank.

    Lightning's own mean (`self.log(..., on_epoch=True)`) begins anew in a resumed run and knows one rank.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.total: Tensor | float = 0.0  # a tensor once there was a batch, so that no step waits for a GPU
        self.count = 0

    def update(self, loss: Tensor, size: int) -> None:
        """loss: a scalar, the mean of `size` samples."""
        wide = torch.float32 if loss.device.type == "mps" else torch.float64
        self.total = self.total + loss.detach().to(wide) * size
        self.count += size

    def mean(self) -> float | None:
        """The mean so far, the same on all ranks, all of which call this; None before the first batch."""
        parts = [self.state_dict()]
        if several_ranks():
            parts = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(parts, self.state_dict())
        count = sum(part["count"] for part in parts)
        return sum(part["total"] for part in parts) / count if count else None

    def state_dict(self) -> dict[str, Any]:
        return {"total": float(self.total), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total, self.count = state["total"], state["count"]
