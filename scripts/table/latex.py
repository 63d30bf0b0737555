"""A table as LaTeX, for `\\input`: booktabs, a row per setting, the paper's rows and the floors in italics."""

from collections.abc import Sequence

from scripts.table import words
from scripts.table.summary import Row, Table

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "<": r"$<$", ">": r"$>$",
    "[": "{[}", "]": "{]}",  # after \\ a bracket would be the space between two rows
}  # fmt: skip


def escaped(text: str) -> str:
    """Text as it is to be read: no character of it commands LaTeX."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def page(table: Table) -> str:
    """Needs \\usepackage{booktabs}."""
    rows = [[row.label, str(len(row.runs)), *cells_of(table, row), verdict_of(table, row.label)] for row in table.rows]
    below = [
        [f"{row.label} (paper)", "", *(row.published.get(metric, "not recorded") for metric in table.metrics), ""]
        for row in table.rows
        if row.published
    ]
    for kind, values in table.floors.items():
        cells = [words.number(values.get(metric), metric) for metric in table.metrics]
        below.append([kind.replace("_", " "), "", *cells, ""])
    lines = [
        f"% {table.command}",
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption(table)}}}",
        rf"\label{{tab:{table.name}-{table.task}-{table.scale}}}".replace("_", "-"),
        rf"\begin{{tabular}}{{lr{'r' * len(table.metrics)}l}}",
        r"\toprule",
        line(["", "$n$", *map(escaped, table.metrics), f"{escaped(table.primary)}: difference"]),
        r"\midrule",
        *(line(list(map(escaped, row))) for row in rows),
        *([r"\midrule"] if below else []),
        *(line([rf"\textit{{{escaped(cell)}}}" if cell else "" for cell in row]) for row in below),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def cells_of(table: Table, row: Row) -> list[str]:
    return [words.of_row(row, metric) for metric in table.metrics]


def line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def verdict_of(table: Table, label: str) -> str:
    """The row's first contrast of the primary metric: mean, interval, verdict."""
    found = [one for one in table.contrasts if one.row == label and one.metric == table.primary]
    if not found:
        return ""
    one = found[0]
    return f"{words.difference(one.mean, one.interval, one.metric)}, {one.verdict}"


def caption(table: Table) -> str:
    """What the numbers are: seeds, tests, states of the code."""
    commits = ", ".join(table.commits) or "none"
    text = (
        f"{table.question} Scale {table.scale}; mean ± standard deviation over n seeds; differences paired by seed, "
        f"with Student's 95 % interval; sign-flip test, in a fixed sequence or corrected by Holm. Code: {commits}."
    )
    return escaped(text)
