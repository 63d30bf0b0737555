"""ContextAwareMask: a small MLP reads the query tokens and returns a soft mask over key positions (paper section 3).

H_1 = ReLU(X W_1 + b_1);  H_i = ReLU(H_{i-1} W_i + b_i), i = 2..L-1;  M = H_{L-1} W_L + b_L

>>> mask_net = ContextAwareMask(dim=768, num_keys=50, depth=31)
>>> mask_net(torch.randn(2, 50, 768)).dense().shape
torch.Size([2, 1, 50, 50])
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from lcaam.factors import Mask
from lcaam.fusion import Fusion

INITS = ("identity", "default", "xavier", "kaiming")


class ContextAwareMask(nn.Module):
    """The paper's mask module: M[i, j] = h(x_i) . w_j + b_j, a bias over key POSITIONS conditioned on the query token.

    dim:      width of the tokens it reads.
    num_keys: number of key positions, the width of the last layer.
    depth:    number of linear layers, as the paper counts them; 1 is M = X W + b.
    hidden:   width of the hidden layers; None is `dim`.
    rank:     None, or the rank r of a linearly factorised last layer W = A C (no ReLU between, not counted in depth).
    groups:   1 (one mask for all heads, the paper) or the number of heads (ours).
    residual: adds each hidden layer's input to its output where the widths agree (ours).
    length:   "fixed": at most `num_keys` keys; fewer use the first columns.
    init:     "identity" (ours): hidden layers Kaiming, last weight zero, bias at the fusion's neutral value, so that
              training starts from plain attention; its hidden layers get a zero gradient in step 1 and a non-zero
              one from step 2 on. "default": torch's nn.Linear. "xavier", "kaiming": that in every layer, zero bias.
              At 31 layers torch's default is dead: every token gets the same mask and the first layer no gradient.
    fusion:   only to know the neutral value of init="identity".

    Raises ValueError for a size below 1 or an unknown option.
    """

    def __init__(
        self,
        dim: int,
        num_keys: int,
        depth: int = 3,
        hidden: int | None = None,
        rank: int | None = None,
        groups: int = 1,
        length: Literal["fixed"] = "fixed",
        init: Literal["identity", "default", "xavier", "kaiming"] = "identity",
        fusion: str | Fusion = "mul",
        residual: bool = False,
    ):
        super().__init__()
        hidden = dim if hidden is None else hidden
        sizes = {"dim": dim, "num_keys": num_keys, "depth": depth, "hidden": hidden, "rank": rank, "groups": groups}
        for name, size in sizes.items():
            if size is not None and size < 1:
                raise ValueError(f"ContextAwareMask: {name} must be at least 1, got {size}")
        if length != "fixed":
            raise ValueError(f"ContextAwareMask: unknown length {length!r}; allowed: fixed")
        if init not in INITS:
            raise ValueError(f"ContextAwareMask: unknown init {init!r}; allowed: {', '.join(INITS)}")
        self.num_keys, self.groups, self.rank, self.residual = num_keys, groups, rank, residual
        widths = [dim] + [hidden] * (depth - 1)
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.squeeze = None if rank is None else nn.Linear(widths[-1], groups * rank, bias=False)  # A of W = A C
        self.last = nn.Linear(rank or widths[-1], groups * num_keys)
        self.reset_parameters(init, Fusion.parse(fusion))

    def reset_parameters(self, init: str, fusion: Fusion) -> None:
        """Draw the parameters again, as `init` says."""
        linears = [*self.hidden, *([] if self.squeeze is None else [self.squeeze]), self.last]
        for linear in linears:
            linear.reset_parameters()
            if init == "xavier":
                nn.init.xavier_uniform_(linear.weight)
            elif init in ("identity", "kaiming"):
                nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            if init != "default" and linear.bias is not None:
                nn.init.zeros_(linear.bias)
        if init == "identity":
            nn.init.zeros_(self.last.weight)
            nn.init.constant_(self.last.bias, fusion.neutral)
        if self.residual and init != "default":
            # ReLU outputs are positive and would double the stream at every skip: share one unit of growth among them
            skips = [linear for linear in self.hidden if linear.in_features == linear.out_features]
            for linear in skips:
                with torch.no_grad():
                    linear.weight.div_(len(skips))

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Mask:
        """x (B, N_q, dim) -> Mask (B, G, N_q, num_keys).

        keys (B, N_k, any width), optional: only their number counts; the mask is cut to the first N_k columns.
        Raises ValueError for more keys than `num_keys`.
        """
        for linear in self.hidden:
            y = linear(x).relu()
            x = x + y if self.residual and x.shape == y.shape else y
        left = x.unsqueeze(1)  # (B, 1, N_q, R)
        if self.squeeze is not None:
            left = self.squeeze(x).unflatten(-1, (self.groups, self.rank)).transpose(1, 2)  # (B, G, N_q, r)
        right = self.last.weight.unflatten(0, (self.groups, self.num_keys))[None]  # (1, G, N_k, R)
        bias = self.last.bias.unflatten(0, (self.groups, 1, self.num_keys))[None]  # (1, G, 1, N_k)
        mask = Mask(left, right, bias)
        return mask if keys is None else fit_keys(mask, keys.shape[1])


def fit_keys(mask: Mask, num_keys: int) -> Mask:
    """`mask` for a sequence of `num_keys` keys: its first columns; ValueError where it has too few of them.

    A mask without factors was made for one length, so it must fit exactly.
    """
    if mask.num_keys == num_keys:
        return mask
    if mask.num_keys < num_keys:
        raise ValueError(
            f"the mask has {mask.num_keys} key columns and the sequence {num_keys} keys. A mask of length='fixed' "
            f"serves at most num_keys={mask.num_keys} keys: build it with num_keys={num_keys} or more, or use one that "
            "takes any length (length='interpolate' or length='content')"
        )
    if not mask.factored:
        raise ValueError(f"a dense mask of {mask.num_keys} key columns does not fit a sequence of {num_keys} keys")
    return mask.first_keys(num_keys)
