"""The node `table:` of a sweep's YAML: what its table asks, what it is compared with, and what counts as a difference.

    table:
      question: Does a mask per layer describe better than full attention?
      baseline: full attention
      contrasts: [{row: Multi-LCAAM}]

Rows are named by their labels (scripts/table/labels.py). A single run has `table: null`. `primary:` belongs to a task.
"""

from dataclasses import dataclass, field
from typing import Any

from configs.knobs import Inside, NotNegative

MOST_CONTRASTS = 3  # a fixed sequence is meant for the few questions that were asked beforehand
SCALES = ("linear", "log")
FIGURE = ("x", "y", "by", "scale")


@dataclass
class Primary:
    """What a task is judged by. metric: one of its test metrics; margin: the smallest difference that matters."""

    metric: str
    margin: NotNegative | None = None  # in the metric's unit; null: no difference can be called too small


@dataclass
class TableNode:
    """How a sweep becomes a table (python -m scripts.table). Raises ValueError for parts that do not go together.

    question: a sentence. baseline: a label, or the part of it that every baseline has ("full attention").
    metrics: in this order; empty: the task's `headline`. primary, margin: null: those of the task.
    contrasts: pre-registered, tested in this order on the primary metric: {row: label, against: label or baseline}.
    failed_below: by scale, the value of the primary metric under which a seed has failed.
    labels: words of labels by override, e.g. {experiment=madv2_baseline: full attention}; "" leaves it out.
    published: the paper's figures of this table, by label and metric. figure: {x, y, by, scale}, x and by as overrides'
    keys, y a metric. interventions (docs/ladder.md): each gives a row to every row whose masks read their input, from
    the same runs tested again. budgets: shares of the steps; each gives every row a second one of shorter runs, which
    go on from the long ones (task.schedule=wsd, callbacks=budgets). data_sets: the setting that makes another data set
    (data.seed); differences are then also averaged over data sets.
    """

    question: str
    baseline: str
    metrics: list[str] = field(default_factory=list)
    primary: str | None = None
    margin: NotNegative | None = None
    contrasts: list[dict[str, str]] = field(default_factory=list)
    failed_below: dict[str, float] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    published: dict[str, dict[str, str]] = field(default_factory=dict)
    figure: dict[str, Any] | None = None
    interventions: list[str] = field(default_factory=list)
    budgets: list[Inside] = field(default_factory=list)
    data_sets: str | None = None

    def __post_init__(self) -> None:
        if len(self.contrasts) > MOST_CONTRASTS:
            raise ValueError(
                f"{len(self.contrasts)} contrasts; at most {MOST_CONTRASTS} can be tested in a fixed order, the others "
                "are exploratory and need no entry"
            )
        for number, one in enumerate(self.contrasts):
            if "row" not in one or one.keys() - {"row", "against"}:
                raise ValueError(f"contrasts[{number}]: has the keys {sorted(one)}; allowed: row, and against")
        if self.figure is not None:
            if "x" not in self.figure or self.figure.keys() - set(FIGURE):
                raise ValueError(f"figure: has the keys {sorted(self.figure)}; allowed: x, and y, by, scale")
            if self.figure.get("scale", SCALES[0]) not in SCALES:
                raise ValueError(f"figure.scale: {self.figure['scale']!r} is none of {', '.join(SCALES)}")
