"""A table as markdown: what is missing, the scores, every seed, the differences and how sure they are, the remarks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scripts.table import words
from scripts.table.speed import METRIC, Speed, speeds
from scripts.table.statistics import DRAWS, EXACT_UP_TO, spread
from scripts.table.summary import NEVER, Contrast, Explanation, Row, Table
from tasks.common.cells import SHOWN

NOTES = f"""\
± is the standard deviation over seeds (n - 1). Differences are paired by seed: the mean with Student's 95 % interval,
the Hodges-Lehmann estimate, p of the two-sided sign-flip test (over all 2^n signs up to n = {EXACT_UP_TO}, above that
over {DRAWS:,} drawn ones) and p of the paired t test. With n seeds the smallest p of the sign-flip test is 2 / 2^n.
Verdicts: *no difference above the margin* if two one-sided t tests (TOST) place the mean inside the margin, p < .05;
*helps* or *hurts* if the corrected sign-flip p is below .05; else *not resolved*. Pre-registered contrasts are tested
in their order, the next one only if p < .05 before it; exploratory ones are corrected by Holm within their metric.
Scatter: p of the Brown-Forsythe test of the two rows' values. Failed seeds: 95 % interval of Clopper and Pearson.
New items: 95 % bootstrap interval, seeds and test items resampled and crossed. Speed: the first validation at which a
run has made 95 % of the way that the baseline's median validation loss makes from its first to its last value.
Rungs reach the mask if they are shown not to be worse by the margin or more (one-sided t test, p < .05)."""


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells; | in a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def page(table: Table) -> str:
    """The whole text of one table."""
    title = f"# {table.name}, {table.task.replace('_', ' ')}, scale {table.scale}"
    parts = [title, table.question, f"    {table.command}", first_line(table), missing_lines(table)]
    table = begun(table)
    parts.append(scores(table))
    if any(row.runs for row in table.rows):
        parts += [seeds(table), contrasts(table, "primary"), contrasts(table, "exploratory"), scatter(table)]
        parts += [over_data_sets(table), explanations(table), speed_of_learning(table)]
    parts += ["\n".join(f"- {line}" for line in table.remarks), NOTES]
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def begun(table: Table) -> Table:
    """The table without rows that never ran, which the lines above it name; as it is if no row ran. What was
    pre-registered stays."""
    never = {row.label for row in table.rows if never_ran(row) and row.label != table.baseline}
    if not any(row.runs for row in table.rows):
        return table
    explained = [one for one in table.explanations if one.row not in never]
    return replace(
        table,
        rows=[row for row in table.rows if row.label not in never],
        contrasts=[one for one in table.contrasts if one.role == "primary" or not never & {one.row, one.against}],
        explanations=[replace(one, rungs=[r for r in one.rungs if r.row not in never]) for one in explained],
        over_data_sets=[one for one in table.over_data_sets if not never & {one.row, one.against}],
    )


def never_ran(row: Row) -> bool:
    """Whether none of several seeds was begun."""
    return len(row.expected) > 1 and [row.missing.get(seed) for seed in row.expected] == [NEVER] * len(row.expected)


def first_line(table: Table) -> str:
    """`16 cells: 14 counted (2 from x.csv), 1 failed (LCAAM, seed 3: ...), 1 never ran (LCAAM, seed 5)`."""
    runs = [run for row in table.rows for run in row.runs.values()]
    files = Counter(run["source"] for run in runs if run.get("source"))
    known = f" ({', '.join(f'{count} from {path}' for path, count in files.items())})" if files else ""
    parts = [f"{len(runs)} counted{known}"]
    for kind, cells in missing(table).items():
        more = f"; and {sum(list(cells.values())[SHOWN:])} more" if len(cells) > SHOWN else ""
        parts.append(f"{sum(cells.values())} {kind} ({'; '.join(list(cells)[:SHOWN])}{more})")
    number = sum(len(row.expected) for row in table.rows)
    return f"{number} cell{'' if number == 1 else 's'}: {', '.join(parts)}"


def missing(table: Table) -> dict[str, dict[str, int]]:
    """The cells without a counted run, by what became of them, and how many each text stands for: a row of which
    nothing was begun is one."""
    found: dict[str, dict[str, int]] = {}
    for row in table.rows:
        if never_ran(row):
            found.setdefault(NEVER, {})[f"{row.label}, all {len(row.expected)} seeds"] = len(row.expected)
            continue
        for seed, why in row.missing.items():
            kind, _, detail = why.partition(": ")
            found.setdefault(kind, {})[f"{row.label}, seed {seed}" + (f": {detail}" if detail else "")] = 1
    return found


def missing_lines(table: Table) -> str:
    """A line for each missing cell, where the first line cannot name them all."""
    found = missing(table)
    if all(len(cells) <= SHOWN for cells in found.values()):
        return ""
    return "\n".join(f"- {kind}: {cell}" for kind, cells in found.items() for cell in cells)


def cost(row: Row) -> list[str]:
    """Parameters and FLOPs of the first run of which FLOPs are known, and the median of the trainings' seconds."""
    runs = list(row.runs.values())
    if not runs:
        return [words.NOTHING] * 3
    first = next((run for run in runs if run.get("flops") is not None), runs[0])
    return [*words.sizes(first), f"{np.median([run['seconds']['fit'] for run in runs]):.0f}"]


def scores(table: Table) -> str:
    """A row per setting, the paper's row below its own, then floors and ceilings."""
    lines = []
    for row in table.rows:
        share = words.failed_share(row, table.primary, table.failed_below, table.higher_is_better)
        cells = [words.of_row(row, metric) for metric in table.metrics]
        number = f"{len(row.runs)} / {len(row.expected)}"
        lines.append([row.label, number, *cells, words.median(row, table.primary), share, *cost(row)])
        if row.published:
            theirs = [row.published.get(metric, "not recorded") for metric in table.metrics]
            lines.append([f"*{row.label}, as the paper reports it*", "", *theirs, "", "", "", "", ""])
    for kind, values in table.floors.items():
        cells = [words.number(values.get(metric), metric) for metric in table.metrics]
        lines.append([f"*{kind.replace('_', ' ')}*", "", *cells, "", "", "", "", ""])
    failing = "failed seeds"
    if table.failed_below is not None:
        failing += f" ({table.primary} {'<' if table.higher_is_better else '>'} {table.failed_below:g})"
    header = [
        "row",
        "seeds",
        *table.metrics,
        f"median {table.primary}",
        failing,
        "parameters",
        "FLOPs",
        "seconds (fit)",
    ]
    return markdown(header, lines)


def seeds(table: Table) -> str:
    """The primary metric of every run."""
    numbers = sorted({seed for row in table.rows for seed in row.expected})
    lines = []
    for row in table.rows:
        values = row.values(table.primary)
        cells = [words.number(values.get(seed), table.primary) if seed in row.expected else "" for seed in numbers]
        lines.append([row.label, *cells])
    return f"## Every seed: {table.primary}\n\n" + markdown(["row", *map(str, numbers)], lines)


def contrasts(table: Table, role: str) -> str:
    """The contrasts of one role."""
    found = [one for one in table.contrasts if one.role == role]
    if not found:
        return ""
    title = {"primary": "Pre-registered contrasts, in their order", "exploratory": "Exploratory differences"}[role]
    corrected = {"primary": "p in sequence", "exploratory": "p (Holm)"}[role]
    header = ["row", "minus", "metric", "n", "mean [95 %]", "Hodges-Lehmann", "p sign-flip", "p t", corrected]
    header += ["margin", "p TOST", "new items", "verdict"]
    return f"## {title}\n\n" + markdown(header, [line_of(one) for one in found])


def line_of(one: Contrast) -> list[str]:
    not_tested = one.role == "primary" and one.p_adjusted is None and one.p_sign_flip is not None
    return [
        one.row,
        one.against,
        one.metric,
        str(one.n),
        words.difference(one.mean, one.interval, one.metric),
        words.number(one.hodges_lehmann, one.metric, sign=True),
        words.p_value(one.p_sign_flip) + ("" if one.exact else " (drawn)"),
        words.p_value(one.p_t),
        "not tested" if not_tested else words.p_value(one.p_adjusted),
        words.NOTHING if one.margin is None else f"{one.margin:g}",
        words.p_value(one.p_equivalence),
        words.resampled(one),
        one.verdict,
    ]


def scatter(table: Table) -> str:
    """Deviations of the primary metric beside the baseline's."""
    rows = {row.label: row for row in table.rows}
    lines = []
    for one in table.contrasts:
        if one.metric == table.primary and {one.row, one.against} <= rows.keys():
            lines.append([one.row, deviation(rows[one.row], one.metric), one.against])
            lines[-1] += [deviation(rows[one.against], one.metric), words.p_value(one.p_scatter)]
    header = ["row", "std", "against", "its std", "p Brown-Forsythe"]
    return f"## Scatter between seeds: {table.primary} (exploratory)\n\n" + markdown(header, lines) if lines else ""


def over_data_sets(table: Table) -> str:
    """Differences averaged over data sets."""
    if not table.over_data_sets:
        return ""
    title = f"## Over data sets: {table.primary} (exploratory)"
    text = "Seeds are averaged within each data set; the interval is Student's over data sets, so it is about new data."
    return f"{title}\n\n{text}\n\n" + markdown(DATA_HEADER, data_lines(table))


DATA_HEADER = (
    "row",
    "minus",
    "data sets",
    "seeds each",
    "mean of each",
    "mean [95 %]",
    "std between data",
    "std of seeds",
)


def data_lines(table: Table) -> list[list[str]]:
    """A line per setting."""
    return [
        [
            one.row,
            one.against,
            str(len(one.means)),
            str(one.seeds),
            "; ".join(f"{name} {words.number(mean, table.primary, sign=True)}" for name, mean in one.means.items()),
            words.difference(one.mean, one.interval, table.primary),
            *(words.number(value, table.primary) for value in (one.between, one.within)),
        ]
        for one in table.over_data_sets
    ]


def explanations(table: Table) -> str:
    """Which rungs of the ladder reach each mask's score, the lowest of them first in words."""
    if not table.explanations:
        return ""
    lines = "\n".join(f"- {sentence(one)}" for one in table.explanations)
    return f"## Which rungs reach it\n\n{lines}\n\n" + markdown(RUNG_HEADER, rung_lines(table))


RUNG_HEADER = ("mask", "rung", "n", "rung minus mask [95 %]", "p worse by the margin", "reaches")


def rung_lines(table: Table) -> list[list[str]]:
    """A line per mask and rung."""
    return [
        [
            one.row,
            rung.row,
            str(rung.n),
            words.difference(rung.mean, rung.interval, table.primary),
            words.p_value(rung.p),
            "yes" if rung.reaches else "not shown",
        ]
        for one in table.explanations
        for rung in one.rungs
    ]


def sentence(one: Explanation) -> str:
    """`Multi-LCAAM against full attention: helps. The lowest that reach it: column bias.`"""
    alone = one.lowest == [one.row]
    found = "No lower rung is shown to reach it" if alone else f"The lowest that reach it: {', '.join(one.lowest)}"
    return f"{one.row} against {one.against}: {one.gain}. {found}."


def speed_of_learning(table: Table) -> str:
    """How soon the runs of each row came almost as far as the baseline does; empty without validations."""
    bound, found = speeds(table.rows, next(row for row in table.rows if row.label == table.baseline))
    if bound is None:
        return ""
    lines = []
    for one in found:
        never = "never" if one.steps else words.NOTHING
        middle = never if one.median is None else f"{one.median:g}"
        lines.append([one.label, f"{one.reached} / {len(one.steps)}", middle, listed_steps(one)])
    title = f"## Speed of learning: steps until {METRIC} is {bound:.4g} (exploratory)\n\n"
    return title + markdown(["row", "runs that came there", "median steps", "every seed"], lines)


def listed_steps(one: Speed) -> str:
    return " ".join("never" if step is None else str(step) for _, step in sorted(one.steps.items()))


def deviation(row: Row, metric: str) -> str:
    found = spread(list(row.values(metric).values()))
    return words.number(None if found is None else found.std, metric)
