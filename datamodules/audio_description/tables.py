"""Tables of MAD as they are in their files: csv (MAD-v2, MAD-eval, subtitles) and json (MAD-v1), all cells as text.

A csv may have commas, semicolons, tabs or bars between its cells; a json may also be a list of rows, or JSON lines.

    table = read_table("mad-v2-ad-unnamed.csv", ANNOTATIONS)   # columns movie, start, end, text, ann_id, row

A csv names its columns in several ways (ANNOTATIONS: name -> what is accepted for it). The json is MAD-v1's
{ann_id: {movie, movie_duration, timestamps: [start, end], sentence}}. Nothing is repaired or left out here.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from datamodules.errors import DataError, near, some
from datamodules.formats.decoding import UTF8, decoded
from datamodules.formats.guard import reading
from datamodules.formats.json_text import LINES, value_or_lines
from datamodules.formats.separated import COMMA, ENDINGS, in_words, separator_of
from datamodules.formats.text import last_byte, note_cut, read_text

Aliases = Mapping[str, tuple[str, ...]]

ANNOTATIONS = {
    "movie": ("movie",),
    "start": ("start", "start_time"),
    "end": ("end", "end_time"),
    "text": ("text", "sentence", "text_gt"),
}
DURATION = {"duration": ("movie_duration", "duration")}  # seconds; read if it is there
TIMES = ("timestamps", "ext_timestamps")  # keys of the json
REPLACED = "\ufffd"  # replaces a byte that is not UTF-8


class Pairs(list):
    """A json object as its (key, value) pairs: a key may come twice."""


def annotation_id(file: str | Path, row: int) -> str:
    """Name of a row of an annotation file that has no column ann_id."""
    return f"{Path(file).stem}:{row}"


def read_table(path: str | Path, aliases: Aliases, optional: Aliases = DURATION, encoding: str = UTF8) -> pd.DataFrame:
    """All rows in the file's order: the columns of `aliases`, those of `optional` that are there, ann_id, row.

    Cells are str, stripped; row is the place in the file as an int, 0 for the first row after a csv's header or the
    first annotation of a json. A cell that is missing is "". encoding: of a file without a mark (BOM); bytes that do
    not fit it are U+FFFD.

    Raises DataError: unreadable file, no such column (and which there are), two columns of one name.
    """
    path = Path(path)
    json = path.suffix.lower() in (".json", *LINES)
    raw = _of_json(path, aliases, optional, encoding) if json else _of_csv(path, aliases, encoding)
    columns = {}
    for name, names in {**aliases, **optional}.items():
        found = [alias for alias in names if alias in raw.columns]
        if found:
            columns[name] = raw[found[0]].fillna("").str.strip()
        elif name in aliases:
            hints = {near(alias, raw.columns) for alias in names} - {""}
            raise DataError(
                f"{path}: no column {' or '.join(names)}; its columns are {', '.join(map(str, raw.columns))}."
                f"{min(hints, default='')}"
            )
    table = pd.DataFrame(columns)
    table["row"] = range(len(raw))
    table["ann_id"] = raw["ann_id"] if "ann_id" in raw.columns else [annotation_id(path, row) for row in table["row"]]
    return table


def _of_csv(path: Path, aliases: Aliases, encoding: str) -> pd.DataFrame:
    problem = f"{path}: not a readable csv file"
    separator, source = COMMA, path
    if path.suffix.lower() in ENDINGS:  # a packed one (.csv.gz) has a checksum, and pandas unpacks it
        note_cut(path, last_byte(path))
        with reading(problem):
            text = decoded(path, path.read_bytes(), encoding, errors="replace", setting="data.encoding")
        separator = separator_of(text, lambda names: all(set(those) & set(names) for those in aliases.values()))
        source = io.StringIO(text, newline="")
    with reading(problem if separator == COMMA else f"{problem} (its cells are separated by {in_words(separator)})"):
        # the header as a row like all others: pandas would take the first of too many cells for the row's name
        options = {"header": None, "dtype": str, "keep_default_na": False, "sep": separator}
        cells = pd.read_csv(source, encoding=encoding, encoding_errors="replace", **options)
    header = cells.iloc[0].fillna("").str.strip()
    if len(twice := header[header.duplicated() & (header != "")]):
        raise DataError(f"{path}: more than one column is called {some(twice.unique())}.")
    return cells[1:].set_axis(header.tolist(), axis=1).reset_index(drop=True)


def _of_json(path: Path, aliases: Aliases, optional: Aliases, encoding: str) -> pd.DataFrame:
    text = read_text(path, encoding, errors="replace", setting="data.encoding")
    content, _ = value_or_lines(path, text, pairs=Pairs)
    mapping = isinstance(content, Pairs)
    expected = "{ann_id: {movie, timestamps: [start, end], sentence}}" if mapping else "a list of rows, {movie, ...}"
    if not isinstance(content, list):
        raise DataError(f"{path}: expected an object or a list of rows, found a {type(content).__name__}.")
    named = content if mapping else [(annotation_id(path, number), fields) for number, fields in enumerate(content)]
    if wrong := [name for name, fields in named if not isinstance(fields, Pairs)]:
        raise DataError(f"{path}: expected {expected}; another form under {some(wrong)}.")
    wanted = {alias for names in {**aliases, **optional}.values() for alias in names}
    rows = []
    for name, pairs in named:
        fields = dict(pairs)
        times = next((fields[key] for key in TIMES if key in fields), None)
        spans = dict(zip(("start", "end"), times, strict=True)) if isinstance(times, list) and len(times) == 2 else {}
        spans = spans or (dict.fromkeys(("start", "end"), "") if mapping else {})
        row = {**spans, **{key: value for key, value in fields.items() if key in wanted}}
        if nested := [key for key in row if key not in ("start", "end") and isinstance(row[key], list)]:
            raise DataError(f"{path}: expected {expected}; under {name}, {nested[0]} is not text.")
        own = name if mapping else fields.get("ann_id", name)
        rows.append({key: _text(value) for key, value in {**row, "ann_id": own}.items()})
    return pd.DataFrame(rows, columns=None if rows else ["ann_id"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else repr(value)
