"""The pages that the torture writes: a table between two marks of a page, and the same as JSON beside it."""

import argparse
import json
from pathlib import Path
from typing import Any

from tasks.common.files import write_text


def write(path: Path, rows: list[dict[str, Any]], chosen: argparse.Namespace) -> None:
    """The matrix of `resume`: a row for each task, a column for each variant. Cells that the page's JSON has and this
    command did not run stay, so that a matrix can be made in parts."""
    other = data_of(path, "resume")
    if other.is_file():
        new = {(row["task"], row["column"]) for row in rows}
        old = json.loads(other.read_text(encoding="utf-8"))["rows"]
        rows = [row for row in old if (row["task"], row["column"]) not in new] + rows
    columns = list(dict.fromkeys(row["column"] for row in rows))
    cells = {(row["task"], row["column"]): row for row in rows}
    table = [
        {
            "task": task.replace("_", " "),
            **{column: _cell(cells.get((task, column))) for column in columns},
        }
        for task in dict.fromkeys(row["task"] for row in rows)
    ]
    write_rows(path, "resume", table, chosen, rows)


def write_rows(
    path: Path, part: str, table: list[dict[str, Any]], chosen: argparse.Namespace, data: Any = None
) -> None:
    """Puts `table` between the marks of `part` in the page, or at its end, and `data` (or the table) into the JSON."""
    begin, end = f"<!-- torture {part} -->", f"<!-- end of torture {part} -->"
    keys = list(table[0])
    lines = [" | ".join(keys), " | ".join("---" for _ in keys)]
    lines += [" | ".join(str(row.get(key, "-")) for key in keys) for row in table]
    block = "\n".join([begin, *(f"| {line} |" for line in lines), end])
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if begin in text:
        head, _, rest = text.partition(begin)
        text = head + block + rest.partition(end)[2]
    else:
        text = f"{text}{block}\n"
    write_text(path, text)
    write_text(
        data_of(path, part),
        json.dumps({"kills": chosen.kills, "seed": chosen.seed, "rows": data or table}, indent=1) + "\n",
    )


def data_of(path: Path, part: str) -> Path:
    """The JSON beside a page."""
    return path.with_name(f"torture_{part}.json")


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    name = "" if row["variant"] == row["column"] else f"{row['variant']}: "
    return f"{name}{row['equal']} of {row['runs']}"
