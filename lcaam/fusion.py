"""Fusion: how one mask value m changes one scaled score s before the softmax (paper section 3, the operator `<>`).

>>> from lcaam import Fusion
>>> Fusion.parse("mul")(score, mask)  # (B, H, N_q, N_k), (B, G, N_q, N_k) -> (B, H, N_q, N_k)

A fusion is one record, and everything else follows from it: the equation, the derivatives of every backend, which
backends can compute it, the names that a configuration allows. A new fusion is one call of `register`:

>>> register(Fusion("bound", "s + tanh(m)", torch.tanh, lambda m: 1 - m.tanh() ** 2, neutral=0.0))
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

import torch
import torch.nn.functional as F
from torch import Tensor

Elementwise = Callable[[Tensor], Tensor]
FUSIONS: dict[str, "Fusion"] = {}  # by name, in the order in which they were registered


class Registered(type):
    """Makes the fusions reachable through their class: `for fusion in Fusion`, `Fusion.mul`."""

    def __iter__(cls) -> Iterator["Fusion"]:
        return iter(list(FUSIONS.values()))

    def __getattr__(cls, name: str) -> "Fusion":
        if name not in FUSIONS:
            raise AttributeError(f"there is no fusion {name!r}; fusions: {', '.join(FUSIONS)}")
        return FUSIONS[name]


@dataclass(frozen=True, eq=False, repr=False)
class Fusion(metaclass=Registered):
    """One fusion: a term of the mask value is added to the score, or multiplies it.

    name:       what configurations and errors call it.
    equation:   the fused score in words, a function of s and m.
    term:       an elementwise function of the mask value, or None for a fusion that ignores the mask.
    slope:      the derivative of the term, an elementwise function of the mask value; None is 1 everywhere.
    neutral:    the mask value that leaves plain attention. For none, add and gate every constant does.
    multiplies: True if the term multiplies the score, False if it is added to it.

    There is one object per fusion, so `is` and `==` compare fusions; a pickled one is found again by its name.
    """

    name: str
    equation: str
    term: Elementwise | None
    slope: Elementwise | None = None
    neutral: float = 0.0
    multiplies: bool = False

    def __call__(self, score: Tensor, mask: Tensor) -> Tensor:
        """The fused score; `score` and `mask` broadcast against each other."""
        if self.term is None:
            return score
        return score * self.term(mask) if self.multiplies else score + self.term(mask)

    @property
    def value(self) -> str:
        """The name, as a configuration spells it."""
        return self.name

    @property
    def ignores_mask(self) -> bool:
        """True if the mask plays no part: plain attention."""
        return self.term is None

    @property
    def adds_the_mask(self) -> bool:
        """True if the mask itself is added to the score, so that its factors can be folded into longer features."""
        return self.term is not None and self.slope is None and not self.multiplies

    @property
    def ignores_row_shift(self) -> bool:
        """True if adding a constant to a query's whole mask row changes nothing (the softmax removes it)."""
        return self.ignores_mask or self.adds_the_mask

    @classmethod
    def parse(cls, name: "str | Fusion") -> "Fusion":
        """The fusion called `name`; ValueError with the nearest match for an unknown one."""
        if isinstance(name, Fusion):
            return name
        if isinstance(name, str) and name in FUSIONS:
            return FUSIONS[name]
        near = get_close_matches(str(name), FUSIONS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown fusion {name!r}; allowed: {', '.join(FUSIONS)}.{hint}")

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Fusion {self.name}: {self.equation}>"

    def __reduce__(self):
        return Fusion.parse, (self.name,)


def agreed(asked: "str | Fusion | None", made_for: "Fusion | None") -> Fusion:
    """The fusion to compute with: the one that is asked for, else the one that the mask was made for, else mul.

    ValueError if a mask was made for another fusion than the one asked for. `none` ignores every mask, so it agrees.
    """
    if asked is None:
        return FUSIONS["mul"] if made_for is None else made_for
    fusion = Fusion.parse(asked)
    if made_for is None or made_for is fusion or made_for.ignores_mask or fusion.ignores_mask:
        return fusion
    raise ValueError(
        f"a mask made for fusion {made_for.name!r} is used with fusion {fusion.name!r}: its values mean something else "
        "there. Leave `fusion` out here (the mask's own is taken), or build the mask with "
        f"fusion={fusion.name!r}"
    )


def register(fusion: Fusion) -> Fusion:
    """Makes a fusion known by its name everywhere, and returns it. ValueError for a name that is taken."""
    if fusion.name in FUSIONS or hasattr(Fusion, fusion.name):
        raise ValueError(f"fusion {fusion.name!r}: the name is taken; fusions: {', '.join(FUSIONS)}")
    FUSIONS[fusion.name] = fusion
    return fusion


def same(mask: Tensor) -> Tensor:
    """The mask value itself, as a term."""
    return mask


# `add` and `mul` are the paper's; `gate` and `temper` are not in the paper. Only `gate` is sign-safe: it multiplies the
# weight of a pair by a number below 1, whatever the sign of its score. `mul` and `temper` act on the score itself:
# a factor below 1 raises a negative one (0.5 x -2 > -2), and `temper` keeps the order of a query's keys only if their m
# agree.
register(Fusion("none", "s", term=None))
register(Fusion("add", "s + m", same))
register(Fusion("mul", "s * m", same, neutral=1.0, multiplies=True))
register(Fusion("gate", "s + log sigmoid(m)", F.logsigmoid, lambda m: torch.sigmoid(-m)))
register(
    Fusion(
        "temper",
        "s * softplus(m)",
        F.softplus,
        torch.sigmoid,
        neutral=math.log(math.e - 1),  # softplus of it is 1
        multiplies=True,
    )
)
