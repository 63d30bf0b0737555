"""Numbers as tables show them: two decimals, three of losses."""

import math
from collections.abc import Mapping

from scripts.table.statistics import Spread, share, spread
from scripts.table.summary import Contrast, Row
from tasks.common.directions import LOWER

NOTHING = "-"


def number(value: float | None, metric: str = "", sign: bool = False) -> str:
    if value is None or math.isnan(value):
        return NOTHING
    return f"{value:{'+' if sign else ''}.{3 if metric.endswith(LOWER) else 2}f}"


def mean_std(found: Spread | None, metric: str = "", expected: int | None = None) -> str:
    """`49.90 ± 5.40`, of one value without a deviation; with `(n=3)` if another number of values was expected."""
    if found is None:
        return NOTHING
    text = number(found.mean, metric) + ("" if found.std is None else f" ± {number(found.std, metric)}")
    return text if expected is None else counted(text, found.n, expected)


def counted(text: str, n: int, expected: int) -> str:
    """`text`, followed by the number of its values if that is not the expected one."""
    return text if n == expected else f"{text} (n={n})"


def difference(mean: float | None, interval: tuple[float, float] | None, metric: str = "") -> str:
    """`+2.00 [-0.48, +4.48]`."""
    if mean is None or math.isnan(mean):
        return NOTHING
    return number(mean, metric, sign=True) + ("" if interval is None else f" {between(interval, metric)}")


def between(interval: tuple[float, float] | None, metric: str = "") -> str:
    return NOTHING if interval is None else f"[{', '.join(number(end, metric, sign=True) for end in interval)}]"


def p_value(p: float | None) -> str:
    """`.0078`, `< .0001`, `1`."""
    if p is None:
        return NOTHING
    if p < 0.0001:
        return "< .0001"
    text = f"{p:.4f}" if p < 0.1 else f"{p:.2f}"
    return text.removeprefix("0") if p < 0.995 else "1"


def of_row(row: Row, metric: str) -> str:
    """Mean and deviation over the row's counted runs."""
    return mean_std(spread(list(row.values(metric).values())), metric, len(row.runs))


def median(row: Row, metric: str) -> str:
    found = spread(list(row.values(metric).values()))
    return NOTHING if found is None else number(found.median, metric)


def failed(row: Row, metric: str, below: float | None, higher: bool) -> tuple[int, int]:
    """How many seeds have failed, and of how many: runs that failed, and those on the wrong side of the threshold."""
    broken = sum(why.startswith("failed") for why in row.missing.values())
    values = list(row.values(metric).values())
    missed = 0 if below is None else sum(value < below if higher else value > below for value in values)
    nothing = len(row.runs) - len(values)  # the metric was not a number
    return broken + missed + nothing, len(row.runs) + broken


def failed_share(row: Row, metric: str, below: float | None, higher: bool) -> str:
    """`1 / 8 [0 %, 53 %]`: with its Clopper-Pearson interval."""
    count, of = failed(row, metric, below, higher)
    if of == 0:
        return NOTHING
    low, high = share(count, of)
    return f"{count} / {of} [{100 * low:.0f} %, {100 * high:.0f} %]"


def resampled(one: Contrast) -> str:
    """`[-1.20, +3.40] (8 seeds x 960 items)`."""
    if one.items is None:
        return NOTHING
    interval, seeds, items = one.items
    return f"{between(interval, one.metric)} ({seeds} seeds x {items} items)"


def sizes(run: Mapping) -> list[str]:
    """Parameters, and FLOPs of a forward pass."""
    parameters, flops = run.get("parameters") or {}, run.get("flops")
    return [
        f"{sum(parameters.values()):,}" if parameters else NOTHING,
        NOTHING if flops is None else f"{flops:.3g}",
    ]
