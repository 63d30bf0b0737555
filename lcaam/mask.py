"""ContextAwareMask: a small MLP reads the query tokens and returns a soft mask over the keys (paper section 3).

H_1 = ReLU(X W_1 + b_1);  H_i = ReLU(H_{i-1} W_i + b_i), i = 2..L-1;  M = H_{L-1} W_L + b_L

>>> mask_net = ContextAwareMask(dim=768, num_keys=50, depth=31)
>>> mask_net(torch.randn(2, 50, 768)).dense().shape
torch.Size([2, 1, 50, 50])
"""

import copy
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lcaam.factors import Mask
from lcaam.fusion import Fusion
from lcaam.grid import infer_grid, old_grid, resize_columns, resized_columns
from lcaam.layers import LastLayer, Start, starting
from lcaam.memory import Memory
from lcaam.module import MaskModule

INITS = {  # how a mask module starts
    "identity": "the first mask is neutral: plain attention",
    "default": "torch's own initialisation",
    "xavier": "Xavier uniform weights, zero biases",
    "kaiming": "Kaiming weights, zero biases",
}
LENGTHS = {  # what a mask does with another number of keys than it was made for
    "fixed": "fewer keys use the first columns, more are refused",
    "interpolate": "the columns are resized to the number of keys",
    "content": "the keys' tokens are read instead of their positions",
}


class ContextAwareMask(MaskModule):
    """The paper's mask module, and two heads that are not in the paper and take any number of keys.

    dim:      width of the tokens it reads.
    num_keys: number of key positions for length fixed and interpolate, the width of the last layer.
    depth:    number of linear layers, as the paper counts them; 1 is M = X W + b.
    hidden:   width of the hidden layers; None is `dim`.
    rank:     None, or the rank r of a linearly factorised last layer W = A C (no ReLU between, not counted in depth).
    groups:   1 (one mask for all heads, the paper) or the number of heads (an extension).
    residual: adds each hidden layer's input to its output if the widths agree (an extension).
    length:   "fixed" (the paper): M[i, j] = h(x_i) . w_j + b_j, the query's content and the key's POSITION; at most
              `num_keys` keys, fewer use the first columns.
              "interpolate" (an extension): the same columns, resized linearly along the positions to the number of
              keys.
              "content" (an extension): M[i, j] = h(x_i) . g(y_j) / sqrt(R) + c(y_j), with a network of two linear
              layers on the key tokens y; it knows no positions but those that the tokens carry, and is safe in causal
              decoding.
    grid:     for length interpolate: (rows, columns) of 2-D tokens, whose product is num_keys - prefix; None is 1-D.
    prefix:   for length interpolate: number of first keys (class, registers) that have no position and keep their
              columns.
    key_dim:  for length content: width of the key tokens; None is `dim`.
    init:     "identity" (an extension): hidden layers Kaiming, last weight zero, bias at the fusion's neutral value, so
              that training starts from plain attention; its hidden layers get a zero gradient in step 1 and a non-zero
              one from step 2 on. "default": torch's nn.Linear. "xavier", "kaiming": that in every layer, zero bias.
              At 31 layers torch's default is dead: every token gets the same mask and the first layer no gradient.
    fusion:   what the masks are made for: attention takes it from them. Its neutral value is the start of
              init="identity".

    Raises ValueError for a size below 1, an unknown option, or a grid that does not fit num_keys.
    """

    fusion: Fusion

    def __init__(
        self,
        dim: int,
        num_keys: int | None = None,
        depth: int = 3,
        hidden: int | None = None,
        rank: int | None = None,
        groups: int = 1,
        length: str = "fixed",
        init: str = "identity",
        fusion: str | Fusion = "mul",
        residual: bool = False,
        grid: tuple[int, int] | None = None,
        prefix: int = 0,
        key_dim: int | None = None,
    ):
        super().__init__()
        hidden = dim if hidden is None else hidden
        sizes = {"dim": dim, "depth": depth, "hidden": hidden, "rank": rank, "groups": groups, "key_dim": key_dim}
        for name, size in (sizes | {"num_keys": num_keys}).items():
            if size is not None and size < 1:
                raise ValueError(f"ContextAwareMask: {name} must be at least 1, got {size}")
        for name, given, options in (("length", length, LENGTHS), ("init", init, INITS)):
            if given not in options:
                raise ValueError(f"ContextAwareMask: unknown {name} {given!r}; allowed: {', '.join(options)}")
        if num_keys is None and length != "content":
            raise ValueError(f"ContextAwareMask: length {length!r} needs num_keys")
        if grid is not None and prefix + grid[0] * grid[1] != num_keys:
            raise ValueError(f"ContextAwareMask: {prefix} prefix tokens and a grid of {grid} are not {num_keys} keys")
        self.num_keys, self.groups, self.residual, self.length = num_keys, groups, residual, length
        self.grid, self.prefix = grid, prefix
        widths = [dim] + [hidden] * (depth - 1)
        self.rank = rank or widths[-1]
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.squeeze = None if rank is None else nn.Linear(widths[-1], groups * rank, bias=False)  # A of W = A C
        if length == "content":
            key_dim = dim if key_dim is None else key_dim
            self.key_hidden = nn.Linear(key_dim, hidden)
            self.last = LastLayer(hidden, groups * (self.rank + 1))  # g(y), and c(y) last
        elif num_keys is not None:  # checked above
            self.last = LastLayer(self.rank, groups * num_keys)
        self.init, self.fusion = init, Fusion.parse(fusion)
        neutral, every = self.fusion.neutral, self.rank + 1 if length == "content" else 1
        # ReLU outputs are positive and would double the stream at every skip: share one unit of growth
        skips = sum(a == b for a, b in pairwise(widths)) if residual and init != "default" else 0
        for layer in self.linear_layers():
            share = skips if layer in set(self.hidden) and layer.in_features == layer.out_features else 1
            last = layer is self.last
            starting(layer, Start(init, max(share, 1), neutral if last else None, every if last else 1))
        self.reset_parameters()

    def linear_layers(self) -> list[Any]:
        """Its linear layers, from the first hidden one to the last."""
        return [module for module in self.modules() if isinstance(module, nn.Linear | LastLayer)]

    def reset_parameters(self) -> None:
        """Draws the parameters again, as `init` says."""
        for layer in self.linear_layers():
            layer.reset_parameters()

    def forward(self, x: Tensor, keys: Tensor | None = None, grid: tuple[int, int] | None = None) -> Mask:
        """x (B, N_q, dim) -> Mask (B, G, N_q, N_k).

        keys: (B, N_k, key_dim), the key tokens; None in self-attention, which uses `x`. Only length content reads
              them; the other lengths count them. Length fixed without keys returns all its `num_keys` columns.
        grid: (rows, columns) of these keys, for length interpolate with a 2-D grid; None is the mask's own grid.

        Raises ValueError for more keys than a fixed mask has, or keys that do not fill the grid.
        """
        left = self.read_queries(x)
        if self.length == "content":
            return Mask(left, *self.columns(x if keys is None else keys), fusion=self.fusion)
        weight, offset = self.last()
        right = weight.unflatten(0, (self.groups, self.num_keys))[None]  # (1, G, N_k, R)
        bias = offset.unflatten(0, (self.groups, 1, self.num_keys))[None]  # (1, G, 1, N_k)
        if self.length == "interpolate":
            count = (x if keys is None else keys).shape[1]
            right = resize_columns(right, count, self.grid, grid, self.prefix)
            bias = resize_columns(bias.transpose(2, 3), count, self.grid, grid, self.prefix).transpose(2, 3)
            return Mask(left, right, bias, whole=True, fusion=self.fusion)
        mask = Mask(left, right, bias, fusion=self.fusion)
        return mask if keys is None else mask.fit(keys.shape[1])

    def read_queries(self, x: Tensor) -> Tensor:
        """h(x): (B, N_q, dim) -> (B, 1 or G, N_q, R)."""
        for linear in self.hidden:
            y = linear(x).relu()
            x = x + y if self.residual and x.shape == y.shape else y
        if self.squeeze is None:
            return x.unsqueeze(1)
        return self.squeeze(x).unflatten(-1, (self.groups, -1)).transpose(1, 2)

    def columns(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """For length content: keys (B, N_k, key_dim) -> right factor (B, G, N_k, R) and bias (B, G, 1, N_k).

        The factor is divided by sqrt(R), as attention divides its scores: without that, values grow with the width.
        """
        features = self.last(self.key_hidden(keys).relu()).unflatten(-1, (self.groups, -1)).transpose(1, 2)
        return features[..., :-1] / math.sqrt(self.rank), features[..., -1].unsqueeze(2)

    def resized(self, num_keys: int, how: str = "first", grid: tuple[int, int] | None = None) -> "ContextAwareMask":
        """A copy for another number of keys, with the same hidden layers.

        how:  "first": the first columns stay, and further ones start at the fusion's neutral value. "interpolate": the
              columns are resized linearly along the positions, all but those of the prefix tokens.
        grid: (rows, columns) of the new positions, if the mask has a 2-D grid; None is a square, if both can be.

        ValueError for length content, which takes any number of keys as it is, less than one key, an unknown `how`,
        "first" with a 2-D grid, whose rows of positions it would mix up, or a grid that does not fit.
        """
        if self.length == "content" or self.num_keys is None:
            raise ValueError("ContextAwareMask: length='content' takes any number of keys, there is nothing to resize")
        if num_keys < 1:
            raise ValueError(f"ContextAwareMask: num_keys must be at least 1, got {num_keys}")
        if self.grid is None and grid is not None:
            raise ValueError("a mask for a line of keys was given a grid: build it with grid=(rows, columns)")
        if self.grid is not None and grid is None:
            grid = infer_grid(num_keys - self.prefix, self.grid)
        if grid is not None and self.prefix + grid[0] * grid[1] != num_keys:
            raise ValueError(f"{num_keys} keys with {self.prefix} prefix tokens are not a grid of {grid}")
        new = copy.deepcopy(self)
        new.num_keys, new.grid = num_keys, grid
        last = LastLayer(self.rank, self.groups * num_keys).to(self.last.weight)
        starting(last, Start(self.init, 1, self.fusion.neutral))
        new.last = last
        with torch.no_grad():
            state = new.resized_state(dict(self.named_parameters()), how, self.grid)
            for name in ("weight", "bias"):
                getattr(last, name).copy_(state[f"last.{name}"])
                getattr(last, name).requires_grad_(getattr(self.last, name).requires_grad)
        return new

    def resized_state(
        self, state: Mapping[str, Tensor], how: str = "first", grid: tuple[int, int] | None = None
    ) -> dict[str, Tensor]:
        """As in MaskModule; grid: (rows, columns) of the positions that the state has, None for a line or a square."""
        state = dict(state)
        if self.length == "content" or self.num_keys is None or "last.weight" not in state:
            return super().resized_state(state)
        weight, offset = state["last.weight"], state["last.bias"]
        if len(weight) % self.groups or weight.shape[1] != self.rank:
            raise ValueError(
                f"ContextAwareMask: a last layer of shape {tuple(weight.shape)} is not of {self.groups} groups and "
                f"rank {self.rank}"
            )
        old = old_grid(len(weight) // self.groups - self.prefix, grid, self.grid, how)
        sizes = (self.groups, self.num_keys, how, self.fusion.neutral, old, self.grid, self.prefix)
        state["last.weight"], state["last.bias"] = resized_columns(weight, offset, *sizes)
        return super().resized_state(state)

    def grow(self, x: Tensor, memory: Memory, name: Any) -> Mask:
        """As in MaskModule. With length content a column is read from its token, once, when the token comes.

        ValueError for length interpolate, whose columns move whenever the sequence grows.
        """
        if self.length == "interpolate" and memory.kept:
            raise ValueError(
                "a mask of length='interpolate' moves its columns whenever the sequence grows: use length='fixed' or "
                "length='content'"
            )
        if self.length != "content":
            return self(x, keys=None if memory.kept else x)
        right, bias = self.columns(x)
        # id: a copied cache must find its rows again, and a copied module would be another key
        right = memory.extend((id(self), "right", name), right)
        bias = memory.extend((id(self), "bias", name), bias.transpose(2, 3)).transpose(2, 3)
        return Mask(self.read_queries(x), right, bias, fusion=self.fusion)
