"""The ladder of controls: what a gain may be due to, from nothing to the full mask, as a partial order.

>>> minimal({"columns", "table", "frozen", "lcaam"})  # the rungs that reach a gain
['columns']

A rung is below another if it is a special case of it, so a gain that it reaches needs nothing of what the other has
more: a page names the minimal rungs that explain a gain. Rungs are compared within one scope and one fusion. A rung
that is a kind of mask (lcaam.stack.KINDS) or a control is trained like the mask; "frozen", "swapped" and "shuffled" are
evaluations of a trained mask (lcaam.interventions).
"""

from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True)
class Rung:
    """One rung.

    what: what it can do. above: the rungs right above it, of which it is a special case.
    multiplying, adding: those that are above it only if the fusion multiplies the score, or only if it adds to it.
    trained: False for an evaluation of a trained mask.
    """

    what: str
    above: tuple[str, ...] = ()
    multiplying: tuple[str, ...] = ()
    adding: tuple[str, ...] = ()
    trained: bool = True


RUNGS = {  # every rung stands before those above it
    "none": Rung(
        "plain attention", ("temperature", "span", "blocks", "columns", "offsets", "extra_linear", "extra_layers")
    ),
    "extra_linear": Rung("as many parameters in linear layers after attention"),
    "extra_layers": Rung("as many parameters in further layers"),
    "temperature": Rung("every score of a layer times one number", (), multiplying=("blocks", "columns", "offsets")),
    "span": Rung("a soft window around each query", (), adding=("offsets",)),
    "blocks": Rung("a number for each pair of modalities", ("table",)),
    "columns": Rung("a number for each key", ("table", "shuffled")),
    "offsets": Rung("a number for each offset between key and query", ("table",)),
    "table": Rung("a number for each pair of positions", ("frozen",)),
    "frozen": Rung("the mask's mean over inputs: learned by reading them, used without", ("swapped",), trained=False),
    "swapped": Rung("the mask of another input", ("lcaam",), trained=False),
    "shuffled": Rung("the mask's rows in random order: which query has which is lost", ("lcaam",), trained=False),
    "lcaam": Rung("a mask that reads the query tokens, at the stack's input", ("multi_lcaam",)),
    "multi_lcaam": Rung("a mask that reads the query tokens at each layer", ("content",)),
    "content": Rung("a mask that reads the query tokens and the key tokens"),
}


def below(low: str, high: str, multiplies: bool = True) -> bool:
    """Whether rung `low` is a special case of rung `high`, itself included.

    multiplies: whether the fusion of both multiplies the score (mul, temper) or adds to it (add, gate). Raises
    ValueError for an unknown rung.
    """
    check((low, high))
    return low == high or any(below(rung, high, multiplies) for rung in right_above(low, multiplies))


def right_above(rung: str, multiplies: bool = True) -> tuple[str, ...]:
    """The rungs right above one."""
    found = RUNGS[rung]
    return (*found.above, *(found.multiplying if multiplies else found.adding))


def minimal(reaching: Collection[str], multiplies: bool = True) -> list[str]:
    """Those of the rungs that reach a gain which have no other one of them below, in the order of RUNGS.

    Several are several explanations that the ladder cannot tell apart. Empty if no rung reaches it; ["none"] if there
    is nothing to explain. Arguments and errors as in `below`.
    """
    check(reaching)
    return [
        rung
        for rung in RUNGS
        if rung in reaching and not any(other != rung and below(other, rung, multiplies) for other in reaching)
    ]


def check(rungs: Collection[str]) -> None:
    for rung in rungs:
        if rung not in RUNGS:
            near = get_close_matches(str(rung), RUNGS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown rung {rung!r}; allowed: {', '.join(RUNGS)}.{hint}")
