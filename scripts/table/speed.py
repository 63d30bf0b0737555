"""Speed of learning, apart from final quality: how soon runs come almost as far as the baseline.

A run has come there at its first validation at which `val/loss` is not above

    last + LEFT (first - last)

where first and last are the baseline's median validation loss at its first and its last validation: 95 % of the way
that the baseline makes between them. A run that does not come there within its steps has no number. Steps are those
of validations, so they are known only as finely as validations were made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from scripts.learning_curves import Points, logged
from scripts.table.summary import Row

METRIC = "val/loss"
LEFT = 0.05  # of the baseline's way


@dataclass(frozen=True)
class Speed:
    """The steps after which the runs of a row came there, by seed; None for a run that did not."""

    label: str
    steps: dict[int, int | None]

    @property
    def reached(self) -> int:
        return sum(step is not None for step in self.steps.values())

    @property
    def median(self) -> float | None:
        """The median number of steps, those that did not come there counting as more than all others; None if it is
        one of these, or if no run has a curve."""
        if not self.steps:
            return None
        steps = sorted(float("inf") if step is None else step for step in self.steps.values())
        middle = median(steps)
        return None if middle == float("inf") else middle


def curves(row: Row) -> dict[int, Points]:
    """The validation losses of the row's runs, by seed: from their folders, or from the csv file that knows them."""
    found = {seed: curve(run) for seed, run in row.runs.items()}
    return {seed: points for seed, points in found.items() if points}


def curve(run: Mapping[str, Any]) -> Points:
    if run.get("folder"):
        return logged(run["folder"]).get(METRIC, [])
    return [(int(step), float(value)) for step, value in run.get("validations") or ()]


def threshold(baseline: dict[int, Points]) -> float | None:
    """The loss at which a run has come almost as far as the baseline; None without two validations."""
    if not baseline or min(map(len, baseline.values())) < 2:
        return None
    first, last = (median(points[place][1] for points in baseline.values()) for place in (0, -1))
    return last + LEFT * (first - last)


def speeds(rows: Sequence[Row], baseline: Row) -> tuple[float | None, list[Speed]]:
    """The threshold, and how soon the runs of each row that has its own came there.

    Raises DataError for a damaged metrics.csv.
    """
    bound = threshold(curves(baseline))
    if bound is None:
        return None, []
    return bound, [
        Speed(row.label, {seed: first_at(points, bound) for seed, points in curves(row).items()})
        for row in rows
        if row.own
    ]


def first_at(points: Points, bound: float) -> int | None:
    """The first step at which a value is not above the bound."""
    return next((step for step, value in points if value <= bound), None)
