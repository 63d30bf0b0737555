"""JSON from files and from lines.

What Python's reader raises, also for lists 200,000 deep or a number of 5,000 digits, becomes a DataError.

    splits = read_json(Path("mad_split.json"))
    row = parse_json(line, "highlights.jsonl, line 7: not JSON")
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datamodules.formats.guard import reading
from datamodules.formats.text import read_text


def read_json(path: Path, problem: str = "", *, errors: str = "strict", pairs: Callable | None = None) -> Any:
    """The value in a file of UTF-8. Raises DataError: "<problem> (<reason>)".

    errors: what becomes of bytes that are not UTF-8; pairs: makes an object of its (key, value) pairs.
    """
    problem = problem or f"{path}: not a readable json file"
    if errors == "strict":
        return parse_json(read_text(path, problem=problem), problem, pairs)
    with reading(problem):
        text = path.read_text(encoding="utf-8", errors=errors)
    return parse_json(text, problem, pairs)


def parse_json(text: str | bytes, problem: str, pairs: Callable | None = None) -> Any:
    """The value that a text holds. Raises DataError: "<problem> (<reason>)"."""
    with reading(problem):
        return json.loads(text, object_pairs_hook=pairs)


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number, and not a whole number of hundreds of digits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
