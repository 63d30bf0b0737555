"""A table in long form: a row per cell, counted or not, as csv."""

import csv
import io
from collections.abc import Sequence

from scripts.table.summary import Table

PLAIN = ("table", "task", "scale", "row", "settings", "overrides", "seed", "status", "identity", "commit", "dirty")
LATER = ("started", "fit_seconds", "folder")


def page(tables: Sequence[Table]) -> str:
    """status: "counted", or why the cell has no counted run; folder: empty for a run from a csv file."""
    cells = [cell for table in tables for cell in cells_of(table)]
    metrics = list(dict.fromkeys(name for cell in cells for name in cell if name not in (*PLAIN, *LATER)))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*PLAIN, *metrics, *LATER], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    return text.getvalue()


def cells_of(table: Table) -> list[dict]:
    found = []
    for row in table.rows:
        for seed in row.expected:
            cell = {"table": table.name, "task": table.task, "scale": table.scale, "row": row.label}
            cell |= {"settings": row.settings, "overrides": " ".join(row.overrides), "seed": seed}
            if (run := row.runs.get(seed)) is None:
                found.append(cell | {"status": row.missing[seed]})
                continue
            git = run.get("git") or {}
            cell |= {"status": "counted", "identity": run.get("identity"), "commit": git.get("commit")}
            cell |= {"dirty": git.get("dirty"), "started": run["started"], "fit_seconds": run["seconds"].get("fit")}
            found.append(cell | {"folder": run["folder"] or ""} | run["metrics"])
    return found
