"""Tables to a page: which parts each table's section has, in which order."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lcaam import __version__
from scripts.page.blocks import Page
from scripts.page.costs import cost, provenance
from scripts.page.curves import learning
from scripts.page.dots import dots
from scripts.page.examples import examples
from scripts.page.html import rendered
from scripts.page.masks import masks
from scripts.page.numbers import counted, numbers, verdicts
from scripts.page.sweep_figure import sweep_figure
from scripts.table.summary import Table
from tasks.common.environment import git_state
from tasks.common.files import write_text


def write(tables: Sequence[Table], path: Path) -> None:
    """Writes one HTML file that needs no network, whole or not at all.

    Raises ValueError without a table, DataError for a damaged record, StorageError if it cannot be written.
    """
    if not tables:
        raise ValueError("no table to show")
    names = ", ".join(dict.fromkeys(table.name for table in tables))
    title = f"LCAAM: {names}" if len(names) < 60 else f"LCAAM: {len(tables)} tables"
    write_text(path, rendered([page(table) for table in tables], title, made_by()))


def page(table: Table) -> Page:
    trained = replace(table, rows=[row for row in table.rows if row.own])  # the others have no training of their own
    parts = [
        numbers(table),
        dots(table),
        sweep_figure(trained),
        learning(trained),
        masks(trained),
        examples(trained),
        cost(trained),
        provenance(table),
    ]
    return Page(
        title=f"{table.name}, scale {table.scale}",
        question=table.question,
        verdicts=verdicts(table),
        scale=table.scale,
        task=table.task.replace("_", " "),
        counted=counted(table),
        parts=[part for part in parts if part is not None and part.blocks],
    )


def made_by() -> str:
    state = git_state()
    commit = f", commit {state['commit'][:7]}" if state.get("commit") else ""
    return f"Made by lcaam {__version__}{commit}{' with changes' if state.get('dirty') else ''}."
