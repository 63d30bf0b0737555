"""Files that are written whole or not at all, and JSON lines that know their line in the file."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.formats.json_text import parse_json
from datamodules.formats.text import read_lines


def write_text(path: Path, text: str) -> None:
    """Writes a file beside `path` and renames it: a reader sees the old content or the new, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def write_json(path: Path, value: Any) -> None:
    """`value` as strict JSON: a NaN or an infinity becomes null."""
    write_text(path, json.dumps(strict(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object per line."""
    write_text(path, "".join(json.dumps(strict(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


class JsonLines(list):
    """The rows of a file, and the line of each."""

    def __init__(self, rows: Sequence[dict], path: Path, lines: Sequence[int]):
        super().__init__(rows)
        self.path, self.lines = path, lines


def read_jsonl(path: str | Path) -> JsonLines:
    """The objects of a file, one per line; empty lines are skipped.

    Raises DataError: no such file, not UTF-8, a line that is not a JSON object.
    """
    path = Path(path)
    rows, lines = [], []
    for number, line in read_lines(path):
        row = parse_json(line, f"{path}, line {number}: not JSON: {line.strip()[:60]!r}")
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: needs a JSON object, got {line.strip()[:60]!r}")
        rows.append(row)
        lines.append(number)
    return JsonLines(rows, path, lines)


def strict(value: Any) -> Any:
    """`value` as strict JSON has it: plain values, None for a NaN or an infinity."""
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if hasattr(value, "item"):  # a scalar of NumPy or torch
        return strict(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
