"""What each probe was predicted to show, written before its runs. judging.py says what came of it.

A claim is about some rows at some values of the knob:

    floor, part, ok        the lowest quarter of the way from the probe's floor to 100 %, its middle, its highest one
    = ROW, > ROW, < ROW    beside another row, or "= ROW @ VALUE" at another value of the knob
    >= ROW                 not worse

Rows are named as in masks.py, a rung alone for all its fusions; "frozen", "swapped" and "shuffled" are those of
Multi-LCAAM, "frozen lcaam" those of LCAAM. A claim about a rung with two fusions is compared within its fusion.
`designed` ones were written with the design of the probes, before any code of this suite; the others were added for
rows and values that the design does not name. Outcomes never change this file.
"""

from collections.abc import Sequence
from dataclasses import dataclass

EVERY = ("*",)
STATIC = ("columns", "offsets", "table")
PAPER = ("lcaam", "multi_lcaam")
FLOOR_OF_PLAIN = ("none", "temperature", "entmax", "causal")


@dataclass(frozen=True)
class Claim:
    """values: labels of the knob's values, or EVERY. rows: names of rows or rungs. said: as above."""

    values: Sequence[str]
    rows: Sequence[str]
    said: str
    designed: bool = False


def designed(values: Sequence[str], rows: Sequence[str], said: str) -> Claim:
    return Claim(values, rows, said, designed=True)


DEEP = ("2, identity", "3, identity", "8, identity", "2, default", "3, default", "8, default")
FLAT = ("1, identity", "1, default")
FEW, MANY = ("100", "300"), ("10000",)
ONE_MASK, PER_HEAD = ("1, 4", "1, 16", "1, 32"), ("heads, 4", "heads, 16")
WITH_POSITIONS = ("1, 16, with positions",)

PREDICTIONS: dict[str, tuple[Claim, ...]] = {
    "fixed": (
        designed(("off",), ("none", "content"), "floor"),
        designed(("off",), (*STATIC, *PAPER), "ok"),
        designed(EVERY, ("frozen",), "= multi_lcaam"),
        designed(("on",), ("none", *STATIC, *PAPER, "content"), "ok"),
        Claim(("off",), ("temperature", "entmax", "causal"), "floor"),
        Claim(("off",), ("span",), "part"),  # the query sees the nearest tokens alone, with the others of the window
        Claim(("off",), ("cope",), "ok"),
        Claim(("off",), ("frozen lcaam",), "= lcaam"),
        Claim(("off",), ("swapped",), "= multi_lcaam"),
        Claim(("off",), ("shuffled",), "= multi_lcaam"),  # the column's number is the same in all rows
        Claim(("on",), ("temperature", "span", "entmax", "causal", "cope"), "ok"),
    ),
    "query": (
        designed(("0",), ("none", *STATIC, "content", "frozen"), "floor"),
        designed(EVERY, PAPER, "ok"),
        Claim(("0",), ("span", "swapped", "shuffled", "frozen lcaam"), "floor"),
        Claim(EVERY, FLOOR_OF_PLAIN, "floor"),
        Claim(("0.5", "1"), ("content",), "floor"),
        Claim(("0.5",), (*STATIC, "frozen"), "part"),
        Claim(("1",), STATIC, "ok"),
        Claim(("1",), ("frozen", "swapped"), "= multi_lcaam"),
        Claim(EVERY, ("cope",), "ok"),
    ),
    "hop": (
        designed(("2",), ("none", *STATIC, "lcaam", "content", "frozen"), "floor"),
        designed(("2",), ("multi_lcaam",), "ok"),
        designed(("1",), PAPER, "ok"),  # known from trials: the note that names the place fetches the symbol
        Claim(("1",), ("none", *STATIC, "content", "frozen", "frozen lcaam"), "floor"),
        Claim(EVERY, ("temperature", "span", "entmax", "causal", "cope"), "floor"),
        Claim(("2",), ("swapped",), "floor"),
    ),
    "mark": (
        designed(("0.2",), ("none",), "ok"),
        designed(EVERY, (*STATIC, *PAPER, "frozen"), "= none"),
        designed(EVERY, ("content",), ">= none"),
        Claim(EVERY, ("temperature", "entmax"), ">= none"),
        Claim(EVERY, ("span",), "= none"),
        Claim(EVERY, ("cope",), "= causal"),
    ),
    "columns": (
        designed(("300",), ("columns-add", "table-add", "lcaam-add", "multi_lcaam-add"), "> none"),
        designed(("300",), ("multi_lcaam-mul",), "< multi_lcaam-add"),
        designed(("300",), ("content",), "= none"),
        designed(("300",), ("frozen",), "= multi_lcaam"),
        designed(("300",), ("columns-add", "table-add"), "= multi_lcaam-add"),
        Claim(("100", "1000"), ("columns-add", "table-add", "lcaam-add", "multi_lcaam-add"), "> none"),
        Claim(MANY, ("columns-add", "table-add", "lcaam-add", "multi_lcaam-add"), "= none"),  # enough data
        Claim(FEW, ("offsets-add",), "> none"),
        Claim(EVERY, ("temperature", "span"), "= none"),
        Claim(EVERY, ("entmax",), ">= none"),
        Claim(EVERY, ("swapped",), "= multi_lcaam"),
        Claim(EVERY, ("shuffled",), "= multi_lcaam"),
    ),
    "permuted": (
        designed(("yes",), ("none",), "= none @ no"),
        designed(("yes",), (*STATIC, *PAPER, "frozen"), "= none"),
        designed(("yes",), ("content",), ">= none"),
        Claim(("no",), ("columns-add", "table-add", "lcaam-add", "multi_lcaam-add"), "> none"),
        Claim(("yes",), ("temperature", "span"), "= none"),
        Claim(("yes",), ("entmax",), ">= none"),
    ),
    "xor": (
        designed(EVERY, (*STATIC, "content", "frozen"), "floor"),
        designed(FLAT, PAPER, "floor"),
        designed(DEEP, PAPER, "ok"),
        designed(("32, default",), PAPER, "floor"),
        Claim(("32, identity",), PAPER, "ok"),
        Claim(EVERY, ("none", "temperature", "span", "entmax", "causal"), "floor"),
        Claim(DEEP, ("swapped", "shuffled", "frozen lcaam"), "floor"),
    ),
    "two": (
        designed(ONE_MASK, (*STATIC, *PAPER), "part"),
        designed(WITH_POSITIONS, ("none",), "ok"),
        Claim(PER_HEAD, (*STATIC, *PAPER), "ok"),
        Claim((*ONE_MASK, *PER_HEAD), ("none", "temperature", "span", "content", "entmax", "causal"), "floor"),
        Claim((*ONE_MASK, *PER_HEAD), ("frozen",), "= multi_lcaam"),
        Claim(WITH_POSITIONS, (*STATIC, *PAPER, "content", "temperature", "span", "entmax", "causal", "cope"), "ok"),
    ),
}
