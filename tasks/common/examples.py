"""Rows of predictions/test.jsonl as examples to read: what the model was asked, what it answered, what is true.

A row of any task has its answer and the truth under one of the names below; what is left out are long curves.
"""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

COLUMNS = {
    "input": ("query", "video", "vid", "movie", "name", "start", "end"),
    "prediction": ("generated", "predicted", "pred_relevant_windows"),
    "truth": ("reference", "references", "label", "relevant_windows"),
}
LONGEST = 300  # characters of a cell


def examples(path: Path, most: int) -> Iterator[dict[str, str]]:
    """The first rows of a file, each as text by column; nothing if there is no such file."""
    if path.is_file():
        with path.open(encoding="utf-8") as lines:
            for line in islice(lines, most):
                yield example(json.loads(line))


def example(row: Mapping[str, Any]) -> dict[str, str]:
    return {column: cell({name: row[name] for name in names if name in row}) for column, names in COLUMNS.items()}


def cell(values: Mapping[str, Any]) -> str:
    """One value as it is, several with their names."""
    if len(values) == 1:
        (text,) = map(shown, values.values())
    else:
        text = ", ".join(f"{name}: {shown(value)}" for name, value in values.items())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def shown(value: Any) -> str:
    """A list's items beside each other, numbers with three decimals at most."""
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if not isinstance(value, list):
        return str(value)
    inner = [f"[{shown(item)}]" if isinstance(item, list) else shown(item) for item in value]
    return (" | " if any(isinstance(item, str) for item in value) else ", ").join(inner)
