"""What a table holds: its rows (a setting each, with its runs by seed), its contrasts, and what stands beside them.

`scripts.table` makes it from a sweep; the renderers (markdown, LaTeX, csv, `scripts.page`) only show it.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

NEVER = "never ran"  # why a seed has no run, if it was not begun
Role = Literal["primary", "exploratory"]  # primary: pre-registered, tested by fixed sequence
Verdict = Literal["helps", "hurts", "no difference above the margin", "not resolved"]


@dataclass
class Row:
    """One setting of a sweep.

    label: readable and unique in its table.
    settings: 16 hexadecimal digits that identify the setting without the seed (`configs.identity.setting_id`).
    overrides: what the sweep's YAML sets for the row, without the seed.
    expected: the seeds that the sweep asks for.
    runs: the record (results.json) of the counted run by seed, with its `folder` (a Path; None: from a csv file).
    missing: why a seed has no counted run: "never ran", "failed: ...", "unfinished ...", "not counted: ...".
    published: the paper's figures by metric; empty unless the data set is the paper's own.
    rung: its name in lcaam.ladder; None for a row that is none. fusion: "none" without masks.
    of: the label of the row whose runs were tested again with other masks; None for runs of its own.
    steps: how long shorter runs are (`table.budgets`); None for the sweep's own length.
    """

    label: str
    settings: str
    overrides: list[str]
    expected: list[int]
    runs: dict[int, dict[str, Any]] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    published: dict[str, str] = field(default_factory=dict)
    rung: str | None = None
    fusion: str = "none"
    of: str | None = None
    steps: int | None = None

    @property
    def own(self) -> bool:
        """Whether its runs were trained for it, from their first step to their last."""
        return self.of is None and self.steps is None

    def values(self, metric: str) -> dict[int, float]:
        """The metric by seed, of the runs that have it; what was not a number is null in a record."""
        found = {seed: run["metrics"].get(metric) for seed, run in sorted(self.runs.items())}
        return {seed: value for seed, value in found.items() if value is not None}


@dataclass
class Contrast:
    """The difference of one metric between two rows, paired by seed: `row` minus `against`.

    differences: one per common seed, in the order of the seeds; `n` of them.
    interval: Student's 95 % interval of the mean; None with fewer than two pairs.
    p_sign_flip: two-sided, exact up to n = 20; p_t: the paired t test; None with fewer than two pairs.
    p_adjusted: a primary contrast is tested in a fixed sequence (None: the sequence stopped before it), any other one
    by Holm over the table's exploratory contrasts with the same metric.
    margin: the smallest difference that matters, in the metric's unit; None if none was named.
    p_equivalence: two one-sided tests that the mean lies within the margin. p_scatter: Brown-Forsythe, of all values
    of both rows. items: the bootstrap interval over seeds and test items, with the numbers of both.
    """

    row: str
    against: str
    metric: str
    n: int
    differences: list[float]
    mean: float
    interval: tuple[float, float] | None
    p_sign_flip: float | None
    p_t: float | None
    p_adjusted: float | None
    role: Role
    margin: float | None
    verdict: Verdict
    hodges_lehmann: float | None = None
    exact: bool = True  # p_sign_flip is over all signs, not over drawn ones
    p_equivalence: float | None = None
    p_scatter: float | None = None
    items: tuple[tuple[float, float], int, int] | None = None


@dataclass
class Reached:
    """A rung beside the mask that is explained: `row` minus the mask over n common seeds, with its 95 % interval.

    p: from the one-sided t test that the row is not worse than the mask by the margin or more. reaches: p < .05.
    """

    row: str
    n: int
    mean: float
    interval: tuple[float, float] | None
    p: float | None
    reaches: bool


@dataclass
class Explanation:
    """Which rungs of lcaam.ladder reach the score of a mask. gain: the verdict of the mask against its baseline.

    lowest: the labels of those that have no other one below them.
    """

    row: str
    against: str
    gain: Verdict
    rungs: list[Reached]
    lowest: list[str]


@dataclass
class OverDataSets:
    """The difference of the primary metric over several data sets: `row` minus `against`, without the data set's words.

    means: the mean over seeds by data set. seeds: the fewest of one data set. interval: Student's 95 % over the data
    sets; None of a single one. between: the standard deviation of the means; within: that of the differences around the
    mean of their data set, pooled; None if there are too few.
    """

    row: str
    against: str
    means: dict[str, float]
    seeds: int
    mean: float
    interval: tuple[float, float] | None
    between: float | None
    within: float | None


@dataclass
class Table:
    """A table of a sweep.

    floors: metric values by kind ("constant", "input_blind", ... and ceilings such as "oracle").
    figure: what the sweep's YAML says to draw: {"x": "mask.depth", "y": metric, "by": "mask.fusion", "scale": "log"}.
    commits: the states of the code, the most frequent first; more than one is flagged in `remarks`.
    versions: the different sets of package versions of the runs.
    """

    name: str
    question: str
    scale: str
    task: str
    metrics: list[str]
    primary: str
    higher_is_better: bool  # of the primary metric
    baseline: str  # the label of its row
    rows: list[Row]
    contrasts: list[Contrast]
    floors: dict[str, dict[str, float]]
    figure: dict[str, Any] | None
    command: str
    commits: list[str]
    versions: list[dict[str, Any]]
    remarks: list[str]
    failed_below: float | None = None  # of the primary metric
    explanations: list[Explanation] = field(default_factory=list)
    over_data_sets: list[OverDataSets] = field(default_factory=list)
