"""Parameter-matched controls: the same number of extra parameters as a mask, spent on something else (paper Table 3).

    >>> wanted = extra_parameters(scope="per_layer", num_layers=8, dim=768, num_keys=50, depth=31)  # 142,049,680
    >>> extra = extra_linear(768, num_layers=8, parameters=wanted, residual=True)   # a stack after every attention
    >>> widths = extra_layer_widths(768, parameters=wanted)                         # whole encoder layers instead
    >>> Encoder(768, 8, heads=12, after_attention=extra); Encoder(768, 8, heads=12, extra_feedforward=widths)

A reviewer asked whether the paper's "same number of parameters" row added its linear layers without a residual
connection; both are here. Counts match to within TOLERANCE or it is an error.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lcaam.stack import LayerMasks

TOLERANCE = 0.005  # of the wanted number of parameters
CONTROLS = {  # what takes the masks' place
    "none": "nothing: the masks are used",
    "extra_linear": "linear layers after every attention",
    "extra_layers": "encoder layers at the end",
}


def extra_parameters(**layer_masks) -> int:
    """How many parameters LayerMasks with these options has; nothing is allocated."""
    with torch.device("meta"):
        masks = LayerMasks(**layer_masks)
    return count(masks)


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


class ExtraLinear(nn.Module):
    """Linear layers with ReLU between them, as deep as a mask network, on the output of an attention.

    widths: width of the tokens between the layers; first and last are the stack's width. residual: the output of every
    layer (for a narrow pair at the end, the output of the pair) is added to its input; without it, the tokens must pass
    through all layers. With residual connections the stack begins near the identity, as masks and additional layers do,
    so that rows differ in what they learn and not in their start; without them as nn.Linear does.
    """

    def __init__(self, widths: list[int], residual: bool = False):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.residual = residual
        if residual:
            self.begin_as_identity()

    @torch.no_grad()
    def begin_as_identity(self) -> None:
        """The last layer gives 0, the ones before it together about what one alone would, and no layer a constant:
        nn.Linear's biases can be far larger than tokens that are small at the start, and are alike for all of them."""
        layers: Any = list(self.layers)
        for layer in layers:
            layer.weight.div_(len(layers))
            layer.bias.zero_()
        layers[-1].weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """x (..., dim) -> (..., dim)."""
        *hidden, last = self.layers
        for layer in hidden:
            y = layer(x).relu()
            if y.shape == x.shape:
                x = x + y if self.residual else y
            else:  # into the narrow pair that ends the stack; its residual connection spans both layers
                return x + last(y) if self.residual else last(y)
        return x + last(x) if self.residual else last(x)


def extra_linear(dim: int, num_layers: int, parameters: int, residual: bool = False) -> list[ExtraLinear]:
    """One ExtraLinear for each of `num_layers` attentions, together `parameters` parameters.

    Each is as many dim -> dim layers as fit its share, and a pair dim -> w -> dim for the rest.
    Raises ValueError if no such stacks come within TOLERANCE (fewer parameters than about 3 dim per layer).
    """
    stacks, left = [], parameters
    square = dim * dim + dim
    for remaining in range(num_layers, 0, -1):
        share = left / remaining
        squares = int(share // square)
        narrow = round((share - squares * square - dim) / (2 * dim + 1))
        widths = [dim] * (squares + 1) + ([narrow, dim] if narrow > 0 else [])
        if len(widths) == 1:
            raise ValueError(
                f"extra_linear: {parameters} parameters are too few for {num_layers} stacks of width {dim}"
            )
        stacks.append(ExtraLinear(widths, residual))
        left -= count(stacks[-1])
    check("extra_linear", count(*stacks), parameters)
    return stacks


def encoder_layer_parameters(dim: int, feedforward: int, bias: bool = True) -> int:
    """How many parameters an EncoderLayer has: four projections, two LayerNorms, the feed-forward network."""
    biases = 4 * dim + 2 * dim + feedforward + dim
    return 4 * dim * dim + 2 * dim + 2 * dim * feedforward + (biases if bias else 0)


def extra_layer_widths(dim: int, parameters: int, bias: bool = True) -> list[int]:
    """Feed-forward widths of additional EncoderLayers that have `parameters` parameters together.

    bias: whether the layers have biases.

    As many layers as come closest to the usual width 4 dim, then the widths that give the number.
    Raises ValueError if a single layer of the smallest width is already too large.
    """
    smallest, per_unit = encoder_layer_parameters(dim, 1, bias), 2 * dim + bias
    number = max(1, round(parameters / encoder_layer_parameters(dim, 4 * dim, bias)))
    while number > 1 and parameters < number * smallest:
        number -= 1
    if parameters < smallest:
        raise ValueError(
            f"extra_layers: an encoder layer of width {dim} has at least {smallest:,} parameters, the mask to match "
            f"only {parameters:,}: compare with extra_linear, or with a deeper mask"
        )
    units = round((parameters - number * (smallest - per_unit)) / per_unit)
    widths = [units // number + (i < units % number) for i in range(number)]
    check("extra_layers", sum(encoder_layer_parameters(dim, width, bias) for width in widths), parameters)
    return widths


def check(name: str, found: int, wanted: int) -> None:
    if abs(found - wanted) > TOLERANCE * wanted:
        raise ValueError(f"{name}: the closest match has {found:,} parameters, {wanted:,} are wanted")
