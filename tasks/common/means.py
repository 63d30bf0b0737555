"""Means of several values over all batches and ranks, weighted by the batches' sizes.

    means = Means(("loss", "span"))
    means.update({"loss": loss}, size=32)
    means.compute()                     # {"loss": 0.31}

Lightning's own mean over ranks (`self.log(..., sync_dist=True)`) rounds down the mean number of samples per rank.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class Means(Metric):
    """names: every value that may come; those that never came are not in the result."""

    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self, names: Sequence[str]):
        super().__init__()
        self.names = tuple(names)
        for state in ("total", "weight"):
            self.add_state(state, torch.zeros(len(self.names)), dist_reduce_fx="sum")

    def update(self, values: Mapping[str, Tensor], size: int) -> None:
        """values: scalars, each the mean of a batch of `size` samples. KeyError for a name that was not announced."""
        if unknown := values.keys() - set(self.names):
            raise KeyError(f"{', '.join(sorted(unknown))}: not among the announced {', '.join(self.names)}")
        for index, name in enumerate(self.names):
            if name in values:
                self.total[index] += size * values[name].detach().float()
                self.weight[index] += size

    def compute(self) -> dict[str, float]:
        pairs = zip(self.names, self.total.tolist(), self.weight.tolist(), strict=True)
        return {name: total / weight for name, total, weight in pairs if weight}
