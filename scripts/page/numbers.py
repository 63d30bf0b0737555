"""The numbers of a table: its verdicts in sentences, means over seeds, differences, and what is missing.

Every figure is written by scripts.table.words, as in the markdown and LaTeX of the same table.
"""

from collections.abc import Sequence

from scripts.page.blocks import Cell, Grid, Note, Part
from scripts.table import markdown, words
from scripts.table.summary import Contrast, Row, Table


def verdicts(table: Table) -> list[str]:
    """A sentence per pre-registered contrast; one that says so if there is none."""
    primary = [contrast for contrast in table.contrasts if contrast.role == "primary"]
    if primary:
        return [sentence(contrast) for contrast in primary]
    if table.contrasts:
        return ["No contrast of this table was registered beforehand: every difference in it is exploratory."]
    return ["This table compares nothing: it has one setting, or no baseline."]


def sentence(one: Contrast) -> str:
    """`LCAAM against none, exact: helps (+3.20 [+1.00, +5.40], n = 8, sign-flip p = .0078, in sequence .0078).`"""
    facts = [words.difference(one.mean, one.interval, one.metric), f"n = {one.n}"]
    if one.p_sign_flip is not None:
        facts.append(f"sign-flip p = {words.p_value(one.p_sign_flip)}")
        stopped = "not tested, since the sequence stopped before it"
        facts.append(stopped if one.p_adjusted is None else f"in sequence {words.p_value(one.p_adjusted)}")
    if one.margin is not None:
        facts.append(f"margin {one.margin:g}")
    return f"{one.row} against {one.against}, {one.metric}: {one.verdict} ({', '.join(facts)})."


def counted(table: Table) -> str:
    expected = sum(len(row.expected) for row in table.rows)
    return f"{sum(len(row.runs) for row in table.rows)} of {expected} runs"


def numbers(table: Table) -> Part:
    """Means, medians and floors; differences; what is missing, and remarks."""
    blocks: list = [means(table)]
    for role, caption in ROLES.items():
        found = [one for one in table.contrasts if one.role == role]
        if found:
            corrected = "p in sequence" if role == "primary" else "p (Holm)"
            header = [*BEFORE, corrected, *BEHIND]
            blocks.append(Grid(caption, header, [markdown.line_of(one) for one in found], wide=2))
    if table.over_data_sets:
        caption = "Over data sets: seeds averaged within each, the interval over data sets."
        blocks.append(Grid(caption, markdown.DATA_HEADER, markdown.data_lines(table), wide=2))
    blocks += [*explained(table), *scatter(table)]
    blocks += [Note(as_sentence(text)) for text in (markdown.first_line(table), *missing(table), *table.remarks)]
    return Part("Numbers", [*blocks, Note(" ".join(markdown.NOTES.replace("*", "").split()))])


def explained(table: Table) -> list:
    """Which rungs of the ladder reach each mask; nothing if the table has no such rows."""
    if not table.explanations:
        return []
    caption = "Rungs of the ladder beside each mask: does a simpler one reach it?"
    grid = Grid(caption, markdown.RUNG_HEADER, markdown.rung_lines(table), wide=2)
    return [*(Note(markdown.sentence(one)) for one in table.explanations), grid]


ROLES = {
    "primary": "Pre-registered differences, in their order. Paired by seed.",
    "exploratory": "Exploratory differences: they suggest hypotheses and confirm none. Paired by seed.",
}
BEFORE = ("row", "minus", "metric", "n", "mean [95 %]", "Hodges-Lehmann", "p sign-flip", "p t")
BEHIND = ("margin", "p TOST", "new items", "verdict")


def as_sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def missing(table: Table) -> list[str]:
    """A line per cell without a run, where the first line cannot name them all."""
    return [line.removeprefix("- ") for line in markdown.missing_lines(table).splitlines()]


def means(table: Table) -> Grid:
    against = {table.baseline} | {one.against for one in table.contrasts}
    failing = "failed seeds"
    if table.failed_below is not None:
        failing += f" ({table.primary} {'<' if table.higher_is_better else '>'} {table.failed_below:g})"
    rows: list[Sequence[Cell]] = []
    for row in table.rows:
        label: Cell = [row.label, "baseline"] if row.label in against else row.label
        share = words.failed_share(row, table.primary, table.failed_below, table.higher_is_better)
        seeds = f"{len(row.runs)} / {len(row.expected)}"
        rows.append([label, seeds, *(mean(row, metric) for metric in table.metrics), share])
    below = []
    for row in table.rows:
        if row.published:
            theirs = [row.published.get(metric, "not recorded") for metric in table.metrics]
            below.append([f"{row.label}, as the paper reports it", "", *theirs, ""])
    for kind, scores in table.floors.items():
        own = [words.number(scores.get(metric), metric) for metric in table.metrics]
        below.append([kind.replace("_", " "), "", *own, ""])
    caption = f"Mean ± standard deviation over seeds, and the median. Primary metric: {table.primary}."
    return Grid(caption, ["setting", "seeds", *table.metrics, failing], rows, below=below)


def mean(row: Row, metric: str) -> Cell:
    text = words.of_row(row, metric)
    return [text, f"median {words.median(row, metric)}"] if len(row.values(metric)) > 1 else text


def scatter(table: Table) -> list[Grid]:
    """Deviations of the primary metric beside the baseline's."""
    rows = {row.label: row for row in table.rows}
    found = [
        [
            one.row,
            markdown.deviation(rows[one.row], one.metric),
            one.against,
            markdown.deviation(rows[one.against], one.metric),
            words.p_value(one.p_scatter),
        ]
        for one in table.contrasts
        if one.metric == table.primary and {one.row, one.against} <= rows.keys()
    ]
    caption = f"Scatter between seeds, {table.primary} (exploratory)."
    return [Grid(caption, ["row", "std", "against", "its std", "p Brown-Forsythe"], found)] if found else []
