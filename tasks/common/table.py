"""The closing table: each metric of this run beside its floors, its ceiling and the paper's figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pytorch_lightning.utilities.rank_zero import rank_zero_only
from rich.console import Console
from rich.table import Table
from rich.text import Text

ORDER = ("constant", "input_blind", "linear")  # columns before this run; others (a ceiling) come after it


def closing_table(
    title: str,
    headline: Sequence[str],
    metrics: Mapping[str, float],
    references: Mapping[str, Mapping[str, float]],
    paper: Mapping[str, str],
) -> Table:
    """Rows: the headline metrics that the run has, then the paper's others. Columns: floors, this run, the rest, paper.

    A headline metric that neither has (CIDEr on plain tokens, if there is Java) is left out, and so is the last column
    without figures of the paper (tasks/common/published.py).
    """
    floors = [name for name in ORDER if name in references]
    others = [name for name in references if name not in ORDER]
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    last = ["paper"] if paper else []
    for name in (*floors, "this run", *others, *last):
        table.add_column(name.replace("_", " "), justify="right", style="bold" if name == "this run" else None)
    for metric in dict.fromkeys((*(name for name in headline if name in metrics), *paper)):
        table.add_row(
            Text(metric),  # not markup: R@5/16[rougeL] has brackets
            *(_number(references[name].get(metric)) for name in floors),
            _number(metrics.get(metric)),
            *(_number(references[name].get(metric)) for name in others),
            *(paper.get(metric, "not recorded") for _ in last),
        )
    return table


@rank_zero_only
def show(table: Table, folder: Path, remarks: Sequence[str] = ()) -> None:
    """Prints the table, remarks and the run's folder; in a log file the table is 120 columns wide."""
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    console.print(table)
    for line in (*remarks, str(folder)):
        console.print(Text(line), soft_wrap=True, highlight=False)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if 0 < abs(value) < 1 else f"{value:.2f}"  # losses are small, percentages are not
