"""The numbers of a table: its verdicts in sentences, means over seeds, differences, and the seeds that are missing."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

from scripts.page.blocks import Cell, Grid, Note, Part
from scripts.table.summary import Contrast, Row, Table


def values(row: Row, metric: str) -> dict[int, float]:
    """The metric by seed, of the runs that have it."""
    found = {seed: run["metrics"].get(metric) for seed, run in sorted(row.runs.items())}
    return {seed: float(value) for seed, value in found.items() if value is not None}


def number(value: float) -> str:
    """Two digits after the point; four for small numbers such as losses."""
    return f"{value:.4f}" if 0 < abs(value) < 1 else f"{value:.2f}"


def p_value(value: float | None) -> str:
    if value is None:
        return "-"
    return "< .0001" if value < 0.0001 else f"{value:.4f}"


def interval(contrast: Contrast) -> str:
    if contrast.interval is None:
        return ""
    low, high = contrast.interval
    return f"[{signed(low)}, {signed(high)}]"


def signed(value: float) -> str:
    return f"{value:+.4f}" if 0 < abs(value) < 1 else f"{value:+.2f}"


def verdicts(table: Table) -> list[str]:
    """A sentence per pre-registered contrast; one that says so if there is none."""
    primary = [contrast for contrast in table.contrasts if contrast.role == "primary"]
    if primary:
        return [sentence(contrast) for contrast in primary]
    if table.contrasts:
        return ["No contrast of this table was registered beforehand: every difference in it is exploratory."]
    return ["This table compares nothing: it has one setting, or no baseline."]


def sentence(contrast: Contrast) -> str:
    """`Multi-LCAAM against none, exact: helps (+3.20 [+1.00, +5.40], n = 8, sign-flip p = 0.0078, adjusted 0.0078).`"""
    facts = [f"{signed(contrast.mean)} {interval(contrast)}".strip(), f"n = {contrast.n}"]
    if contrast.p_sign_flip is not None:
        facts.append(f"sign-flip p = {p_value(contrast.p_sign_flip)}")
    if contrast.p_adjusted is not None:
        facts.append(f"adjusted {p_value(contrast.p_adjusted)}")
    if contrast.margin is not None:
        facts.append(f"margin {contrast.margin:g}")
    return f"{contrast.row} against {contrast.against}, {contrast.metric}: {contrast.verdict} ({', '.join(facts)})."


def counted(table: Table) -> str:
    expected = sum(len(row.expected) for row in table.rows)
    return f"{sum(len(row.runs) for row in table.rows)} of {expected} runs"


def numbers(table: Table) -> Part:
    """Means, medians and floors; differences; what is missing."""
    blocks: list = [means(table)]
    if table.contrasts:
        blocks += [differences(table), Note(EXPLAINED)]
    blocks += [Note(text) for text in (*table.remarks, *missing(table.rows))]
    return Part("Numbers", blocks)


EXPLAINED = (
    "Differences are paired by seed: the mean and its 95 % interval (Student's t), the exact sign-flip test, the "
    "paired t test, and p after adjustment (fixed sequence for primary contrasts, Holm for others). Exploratory "
    "differences suggest hypotheses and confirm none."
)


def means(table: Table) -> Grid:
    header = ["setting", *table.metrics, "seeds", "not counted"]
    rows = [
        [own(row.label, table), *(mean(row, metric) for metric in table.metrics), *seeds(row)] for row in table.rows
    ]
    below = []
    for row in table.rows:
        if row.published:
            cells = [row.published.get(metric, "-") for metric in table.metrics]
            below.append([f"{row.label}, as published", *cells, "", ""])
    for kind, scores in table.floors.items():
        cells = ["-" if scores.get(m) is None else number(scores[m]) for m in table.metrics]
        below.append([kind.replace("_", " "), *cells, "", ""])
    caption = f"Mean ± standard deviation over seeds, and the median. Primary metric: {table.primary}."
    return Grid(caption, header, rows, below=below)


def own(label: str, table: Table) -> Cell:
    return [label, "baseline"] if label == table.baseline else label


def mean(row: Row, metric: str) -> Cell:
    found = list(values(row, metric).values())
    if len(found) < 2:
        return number(found[0]) if found else "-"
    text = f"{number(float(np.mean(found)))} ± {number(float(np.std(found, ddof=1)))}"
    short = f", n = {len(found)}" if len(found) != len(row.runs) else ""
    return [text, f"median {number(float(np.median(found)))}{short}"]


def seeds(row: Row) -> tuple[Cell, Cell]:
    """How many seeds count, and the share of those that do not, with its exact 95 % interval."""
    total, lost = len(row.expected), len(row.expected) - len(row.runs)
    if not lost:
        return f"{total}", "0"
    share = stats.binomtest(lost, total).proportion_ci(method="exact")
    return f"{len(row.runs)} of {total}", [
        f"{lost}",
        f"{100 * lost / total:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]",
    ]


def missing(rows: Iterable[Row]) -> list[str]:
    """A sentence per setting whose seeds do not all count."""
    return [
        f"{row.label}: " + "; ".join(f"seed {seed} {why}" for seed, why in sorted(row.missing.items())) + "."
        for row in rows
        if row.missing
    ]


def differences(table: Table) -> Grid:
    header = [
        "difference",
        "role",
        "verdict",
        "metric",
        "mean [95 %]",
        "n",
        "p sign-flip",
        "p t",
        "p adjusted",
        "margin",
    ]
    rows: list[Sequence[Cell]] = [
        [
            f"{one.row} - {one.against}",
            one.role,
            one.verdict,
            one.metric,
            [signed(one.mean), interval(one)] if one.interval else signed(one.mean),
            str(one.n),
            p_value(one.p_sign_flip),
            p_value(one.p_t),
            p_value(one.p_adjusted),
            "-" if one.margin is None else f"{one.margin:g}",
        ]
        for one in sorted(table.contrasts, key=lambda one: one.role != "primary")
    ]
    return Grid("Differences between settings, paired by seed.", header, rows, wide=4)
