"""The linear layers of a mask network, and how each of them starts.

Each layer draws its own parameters, so that a tool which resets the modules of a model one by one (a model made on the
meta device, FSDP) ends with the same start whatever its order is.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Start:
    """How a layer starts. init: a key of lcaam.mask.INITS.

    share: its weight is divided by this. neutral, every: for the last layer with init identity, the value of every
    `every`-th bias, the others and the weight being zero; None is a hidden layer.
    """

    init: str
    share: int = 1
    neutral: float | None = None
    every: int = 1


def draw(layer: "nn.Linear | LastLayer", start: Start) -> None:
    """Draws the layer's parameters again."""
    nn.Linear.reset_parameters(layer)  # type: ignore[arg-type]
    with torch.no_grad():
        if start.init == "xavier":
            nn.init.xavier_uniform_(layer.weight)
        elif start.init in ("identity", "kaiming"):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if start.init != "default" and layer.bias is not None:
            layer.bias.zero_()
        if start.init == "identity" and start.neutral is not None:
            layer.weight.zero_()
            layer.bias[start.every - 1 :: start.every] = start.neutral
        if start.share > 1:
            layer.weight.div_(start.share)


def starting(layer: "nn.Linear | LastLayer", start: Start) -> None:
    """From now on `layer.reset_parameters()` starts it like this."""
    layer.reset_parameters = partial(draw, layer, start)  # type: ignore[method-assign]


class LastLayer(nn.Module):
    """The last layer: (..., in_features) -> (..., out_features), or its columns alone.

    Length content multiplies it with hidden units, as every linear layer does. The other lengths never make that
    product: h(x) W^T is the mask itself, and the weight's rows are its columns.

    It has the parameters of nn.Linear and is not one on purpose: an initialisation that a model applies to each of its
    nn.Linear would undo the start of a mask, and a tool that replaces them (LoRA, quantisation) would not find out that
    the columns are read without a product. Such tools leave it alone, or refuse it by its name.
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the parameters as nn.Linear does, unless `starting` says otherwise."""
        nn.Linear.reset_parameters(self)  # type: ignore[arg-type]

    def forward(self, x: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """x (..., in_features) -> (..., out_features); without x the columns: the weight and the bias."""
        if x is not None:
            return F.linear(x, self.weight, self.bias)
        if torch.is_grad_enabled():
            return self.weight, self.bias
        return self.weight.detach(), self.bias.detach()  # views of parameters would ask for gradients even here

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"
