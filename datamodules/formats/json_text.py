"""JSON from files and from lines.

What Python's reader raises, also for lists 200,000 deep or a number of 5,000 digits, becomes a DataError.

    splits = read_json(Path("mad_split.json"))
    row = parse_json(line, "highlights.jsonl, line 7: not JSON")
    rows, lines = value_or_lines(path, text)        # JSON lines; lines is None if the file is one value
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.formats.guard import reading
from datamodules.formats.text import lines_of, read_text

LINES = (".jsonl", ".ndjson")  # endings of files of JSON lines
HALF = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(path: Path, problem: str = "", *, pairs: Callable | None = None, **options: Any) -> Any:
    """The value in a file. Raises DataError: "<problem> (<reason>)".

    pairs: makes an object of its (key, value) pairs; options: encoding, errors and setting, as in `decoded`.
    """
    problem = problem or f"{path}: not a readable json file"
    return parse_json(read_text(path, problem=problem, **options), problem, pairs)


def value_or_lines(path: Path, text: str, pairs: Callable | None = None) -> tuple[Any, list[int] | None]:
    """The value of a file's text; of JSON lines the list of their values, and the line of each.

    JSON lines are recognised by the file's name (.jsonl, .ndjson) or, whatever it is, by their first line.
    pairs: as of read_json. Raises DataError: text that is neither.
    """
    problem = f"{path}: not a readable json file"
    if path.suffix.lower() not in LINES:
        try:
            return parse_json(text, problem, pairs), None
        except DataError:
            if not _begins_lines(text):
                raise
    lines = lines_of(path, text)
    values = [parse_json(line, f"{path}, line {at}: not JSON: {line.strip()[:60]!r}", pairs) for at, line in lines]
    return values, [number for number, _ in lines]


def _begins_lines(text: str) -> bool:
    """Whether the first of several lines is an object of JSON by itself."""
    first, _, rest = text.strip().partition("\n")
    try:
        return bool(rest) and isinstance(parse_json(first, "first line"), dict)
    except DataError:
        return False


def parse_json(text: str | bytes, problem: str, pairs: Callable | None = None) -> Any:
    """The value that a text holds. Raises DataError: "<problem> (<reason>)"; also for half of a surrogate pair, such as
    \\ud800, which no file that is written could hold."""
    with reading(problem):
        value = json.loads(text, object_pairs_hook=pairs)
        if HALF.search(text if isinstance(text, str) else text.decode("utf-8", "surrogatepass")):
            json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")  # a whole pair is fine
    return value


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its (key, value) pairs. ValueError for a key that is there twice, of which one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice!r} is there twice in one object")
    return found


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number, and not a whole number of hundreds of digits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
