"""The pages that the torture writes: a table between two marks of a page, and the same as JSON beside it."""

import argparse
import json
from pathlib import Path
from typing import Any

from tasks.common.files import write_text


def write(path: Path, rows: list[dict[str, Any]], chosen: argparse.Namespace) -> None:
    """The matrix of `resume`: a row for each task, a column for each variant."""
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
    other = path.with_name(f"{path.stem}_{part}.json")
    write_text(other, json.dumps({"kills": chosen.kills, "seed": chosen.seed, "rows": data or table}, indent=1) + "\n")


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    name = "" if row["variant"] == row["column"] else f"{row['variant']}: "
    return f"{name}{row['equal']} of {row['runs']}"
