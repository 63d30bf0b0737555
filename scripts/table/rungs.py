"""Which rungs of the ladder of simpler masks reach the score of a mask that reads its input, and the lowest of them.

A rung reaches it if a one-sided t test over the common seeds shows that it is not worse by the margin or more.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lcaam.fusion import FUSIONS
from lcaam.ladder import RUNGS, below, minimal
from scripts.table import statistics
from scripts.table.contrasts import baseline_of
from scripts.table.summary import Explanation, Reached, Row, Table
from tasks.common.directions import higher_is_better

EXPLAINED = ("lcaam", "multi_lcaam", "content")
WITHOUT_FUSION = ("none", "extra_linear", "extra_layers")


def rung_of(mask: Mapping[str, Any]) -> str | None:
    """The rung of a configuration's mask node; None for a mask that is none, such as SwinBERT's table."""
    if mask["scope"] == "none":
        return "none"
    if mask["control"] != "none":
        return mask["control"]
    if mask["kind"] != "context":
        return mask["kind"] if mask["kind"] in RUNGS else None
    if mask["length"] == "content":
        return "content"
    return "lcaam" if mask["scope"] == "shared" else "multi_lcaam"


def explanations(table: Table, candidates: Sequence[Row], margin: float | None) -> list[Explanation]:
    """One for each row that reads its input. candidates: the baselines. Empty without a margin, or without rungs."""
    if margin is None:
        return []
    found = [explained(table, row, candidates, margin) for row in table.rows if row.own and row.rung in EXPLAINED]
    return [one for one in found if one is not None and len(one.rungs) > 1]


def explained(table: Table, row: Row, candidates: Sequence[Row], margin: float) -> Explanation | None:
    """None if the table says nothing of the row's gain."""
    against = baseline_of(row, candidates)
    pair = (row.label, against.label, table.primary)
    gain = next((one.verdict for one in table.contrasts if (one.row, one.against, one.metric) == pair), None)
    if gain is None:
        return None
    multiplies = row.fusion != "none" and FUSIONS[row.fusion].multiplies
    rungs = rivals(table, row, multiplies)
    compared = {rung: reached(rival, row, table.primary, margin) for rung, rival in rungs.items()}
    reaching = [row.rung, *(rung for rung, one in compared.items() if one.reaches)]
    labels = {row.rung: row.label} | {rung: one.row for rung, one in compared.items()}
    lowest = [labels[rung] for rung in minimal(reaching, multiplies)]
    return Explanation(row.label, against.label, gain, list(compared.values()), lowest)


def rivals(table: Table, row: Row, multiplies: bool) -> dict[str, Row]:
    """By rung, in the ladder's order, the row that differs least from the given one; no rung above it."""
    fitting: dict[str, list[Row]] = {}
    for other in table.rows:
        if other.rung in (None, row.rung) or other.steps is not None or other.of not in (None, row.label):
            continue
        if other.of is None and below(row.rung, other.rung, multiplies):
            continue
        if other.fusion == row.fusion or other.rung in WITHOUT_FUSION or other.rung == "span":
            fitting.setdefault(other.rung, []).append(other)
    return {rung: baseline_of(row, fitting[rung]) for rung in RUNGS if rung in fitting}


def reached(rival: Row, row: Row, metric: str, margin: float) -> Reached:
    values, others = rival.values(metric), row.values(metric)
    seeds = [seed for seed in values if seed in others]
    found = statistics.paired([values[seed] for seed in seeds], [others[seed] for seed in seeds])
    better = found.differences if higher_is_better(metric) else [-one for one in found.differences]
    p = statistics.not_worse(better, margin)
    mean = float("nan") if found.mean is None else found.mean
    return Reached(rival.label, found.n, mean, found.interval, p, p is not None and p < statistics.ALPHA)
