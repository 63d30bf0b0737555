"""How open a static mask is, and which gradient reaches its table: both parts of this study measure it.

>>> openness(net)["passes"], gradient(net, loss)["nonzero"]

An entry's factor is what it multiplies its attention weight by before the softmax normalises: exp of the published bias
(1 - sigmoid(t)) * -1e4, or sigmoid(t) in the log-sigmoid form. It passes something if float32 can hold the factor at
all, beside a score that is as high as its own; it is half open from a factor of 1/2 on. The fixed diagonal is left out
everywhere.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lcaam import StaticMask
from lcaam.static import CLOSED

FLOAT32 = torch.finfo(torch.float32)
LEAST = FLOAT32.smallest_normal * FLOAT32.eps  # 2^-149, the smallest number above 0
HALF = 0.5
QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0)


def sigmoid_for(factor: float, fusion: str) -> float:
    """The sigmoid(t) from which on an entry's factor, in (0, 1], is at least `factor`."""
    return 1 - math.log(factor) / CLOSED if fusion == "add" else factor


def bias(net: StaticMask) -> Tensor:
    """What is added to the scores, float64, a number for each entry of a square table off its diagonal."""
    t = off_diagonal(net, net.table.detach()).double()
    return (1 - t.sigmoid()) * CLOSED if net.fusion.name == "add" else F.logsigmoid(t)


def off_diagonal(net: StaticMask, values: Tensor) -> Tensor:
    """values (rows, columns) of a square table -> those off its diagonal, as a vector. ValueError for another table."""
    if net.own is None:
        raise ValueError(f"a table of {tuple(net.table.shape)} has no diagonal: this study is of square ones")
    return values[~net.own]


def openness(net: StaticMask) -> dict[str, Any]:
    """`sigmoid`: quantiles of sigmoid(t), by their level; `passes`, `half_open`: shares of the entries, in [0, 1]."""
    weights = off_diagonal(net, net.table.detach()).double().sigmoid()
    levels = torch.tensor(QUANTILES, dtype=torch.float64)
    return {
        "sigmoid": dict(zip(map(str, QUANTILES), weights.quantile(levels).tolist(), strict=True)),
        "passes": (weights >= sigmoid_for(LEAST, net.fusion.name)).double().mean().item(),
        "half_open": (weights >= sigmoid_for(HALF, net.fusion.name)).double().mean().item(),
    }


def gradient(net: StaticMask, loss: Tensor) -> dict[str, float]:
    """Size of d loss / d table: `nonzero`, share of entries that are not 0; `largest` magnitude; Euclidean `norm`."""
    values = table_gradient(net, loss).abs()
    return {
        "nonzero": (values != 0).double().mean().item(),
        "largest": values.max().item(),
        "norm": values.norm().item(),
    }


def table_gradient(net: StaticMask, loss: Tensor) -> Tensor:
    """d loss / d table off the diagonal, in float64: float32 cannot hold squares of the published form's gradients."""
    return off_diagonal(net, torch.autograd.grad(loss, net.table)[0]).double()


def scientific(value: float) -> str:
    """2.0e-07; an exact 0 as 0."""
    return f"{value:.1e}" if value else "0"
