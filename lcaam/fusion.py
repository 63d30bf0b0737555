"""Fusion: how one mask value m changes one scaled score s before the softmax (paper section 3, the operator `<>`).

>>> from lcaam import Fusion
>>> Fusion.parse("mul")(score, mask)  # (B, H, N_q, N_k), (B, G, N_q, N_k) -> (B, H, N_q, N_k)
"""

import math
from difflib import get_close_matches
from enum import Enum

import torch.nn.functional as F
from torch import Tensor


class Fusion(str, Enum):
    """The five fusions. `add` and `mul` are the paper's; `gate` and `temper` cannot flip the order of scores."""

    none = "none"
    add = "add"
    mul = "mul"
    gate = "gate"
    temper = "temper"

    def __call__(self, score: Tensor, mask: Tensor) -> Tensor:
        """The fused score; `score` and `mask` broadcast against each other."""
        return EQUATION[self](score, mask)

    @property
    def neutral(self) -> float:
        """The mask value that leaves plain attention. For none, add and gate every constant does."""
        return NEUTRAL[self]

    @property
    def ignores_row_shift(self) -> bool:
        """True where adding a constant to a query's whole mask row changes nothing (the softmax removes it)."""
        return self in (Fusion.none, Fusion.add)

    @classmethod
    def parse(cls, name: "str | Fusion") -> "Fusion":
        """The fusion called `name`; ValueError with the nearest match for an unknown one."""
        try:
            return cls(name)
        except ValueError:
            allowed = [fusion.value for fusion in cls]
            near = get_close_matches(str(name), allowed, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown fusion {name!r}; allowed: {', '.join(allowed)}.{hint}") from None


EQUATION = {
    Fusion.none: lambda s, m: s,
    Fusion.add: lambda s, m: s + m,
    Fusion.mul: lambda s, m: s * m,
    Fusion.gate: lambda s, m: s + F.logsigmoid(m),
    Fusion.temper: lambda s, m: s * F.softplus(m),
}

NEUTRAL = {
    Fusion.none: 0.0,
    Fusion.add: 0.0,
    Fusion.mul: 1.0,
    Fusion.gate: 0.0,
    Fusion.temper: math.log(math.e - 1),  # softplus of it is 1
}
