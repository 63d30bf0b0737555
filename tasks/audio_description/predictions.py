"""A table of sentences, read and checked: what a system generated beside what was wanted.

    predictions = read_predictions("P.csv")      # or a run's predictions/test.jsonl
    predictions.rows[0]                          # {"movie", "start", "end", "reference", "generated", "ann_id"}

ALIASES says which columns, or keys of JSON lines, are understood; others are not read.
"""

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from datamodules.errors import DataError
from datamodules.formats.decoding import UTF8, decoded
from datamodules.formats.json_text import LINES, value_or_lines
from datamodules.formats.separated import COMMA, in_words, rows_of
from tasks.audio_description.metrics import SHOWN

ALIASES = {
    "movie": ("movie", "vid"),
    "start": ("start", "start_time"),
    "end": ("end", "end_time"),
    "reference": ("text_gt", "reference", "text", "sentence"),
    "generated": ("text_gen", "generated", "prediction"),
}
MISSING = ("nan", "NaN", "<NA>", "None", "null", "NULL")  # what tables write for a cell without a value
REPLACED = "\ufffd"  # replaces a byte that is not UTF-8


class PredictionsError(ValueError):
    """Predictions that cannot be scored. The message names the file, the line and the movie."""


class Predictions(NamedTuple):
    """rows: dicts of movie, start, end, reference, generated, ann_id, in (movie, start) order."""

    rows: list[dict[str, Any]]
    notes: list[str]  # what the reader of the scores should know
    columns: dict[str, str]  # field -> the column that it was read from


def read_predictions(path: str | Path, encoding: str = UTF8) -> Predictions:
    """Reads and checks a table: a csv file with any of the usual separators, JSON lines, or a JSON list of objects.

    Movies stay text ("0010"). encoding: of a file without a mark (BOM) of its own; bytes that do not fit become U+FFFD.
    Raises PredictionsError: unreadable or empty file, no such column, an empty reference or movie, a time that is not a
    number or in some rows only, a row twice.
    """
    path = Path(path)
    try:
        cells, lines, notes = cells_of(path, encoding)
    except DataError as error:
        raise PredictionsError(str(error)) from error
    if not cells:
        raise PredictionsError(f"{path}: has no rows")
    columns = find_columns(path, list(dict.fromkeys(name for row in cells for name in row)))
    read = Reader(path, cells, lines, columns)
    movies = read.movies = read.text("movie", notes, least="a movie")
    references = read.text("reference", notes, least="a reference; a row without one cannot be scored: take it out")
    generated = read.text("generated", notes, least=None)
    starts, ends = read.seconds("start"), read.seconds("end")
    named = all(isinstance(row.get("ann_id"), str) for row in cells)
    rows = []
    for i, row in enumerate(cells):
        start = starts[i] if starts else float(i)
        times = {"start": start, "end": ends[i] if ends else start}
        texts = {"reference": references[i], "generated": generated[i]}
        rows.append({"ann_id": row["ann_id"] if named else i, "movie": movies[i]} | times | texts)
    if starts:
        read.refuse_repeats(rows, notes)
    else:
        notes.append(f"{path}: no start: the rows of a movie are taken to be in time order")
    # the order of a run's own test, on which the PTB tokenizer depends
    return Predictions(sorted(rows, key=lambda row: (row["movie"], row["start"])), notes, columns)


def cells_of(path: Path, encoding: str) -> tuple[list[dict[str, Any]], list[int], list[str]]:
    """Rows, the line on which each begins (in a JSON list its place, from 1 on), and what is worth knowing."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: not a readable file ({error.strerror})") from error
    text = decoded(path, data, encoding, errors="replace", setting="--encoding")
    if path.suffix.lower() in (*LINES, ".json"):
        value, lines = value_or_lines(path, text)
        if not isinstance(value, list):
            raise DataError(f"{path}: expected JSON lines or a list of objects, got {type(value).__name__}")
        lines = lines or [*range(1, len(value) + 1)]
        if wrong := [line for line, row in zip(lines, value, strict=True) if not isinstance(row, dict)]:
            raise DataError(f"{path}, line {wrong[0]}: needs a JSON object, got another value")
        return value, lines, []
    if "\0" in text:
        raise DataError(f"{path}: not a csv file: it has zero bytes")
    table = rows_of(path, text, lambda names: not lacking(names))
    notes = [] if table.separator == COMMA else [f"{path}: its cells are separated by {in_words(table.separator)}"]
    return table.rows, table.lines, notes


def lacking(names: Sequence[str]) -> list[str]:
    """The fields that a table with these columns has not, of those that it must have."""
    needed = [field for field in ALIASES if field not in ("start", "end")]
    return [field for field in needed if not set(ALIASES[field]) & set(names)]


def find_columns(path: Path, present: Sequence[str]) -> dict[str, str]:
    """The column of each field; if several of its aliases are present, the first in ALIASES."""
    columns = {}
    for field, aliases in ALIASES.items():
        found = [alias for alias in aliases if alias in present]
        if found:
            columns[field] = found[0]
        elif field in lacking(present):
            near = get_close_matches(aliases[0], present, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise PredictionsError(
                f"{path}: no column {' or '.join(aliases)}; its columns are {', '.join(map(repr, present))}{hint}"
            )
    return columns


class Reader:
    """Columns of the table, and the names of its rows in messages."""

    def __init__(self, path: Path, cells: Sequence[Mapping], lines: Sequence[int], columns: Mapping[str, str]):
        self.path, self.cells, self.lines, self.columns = path, cells, lines, columns
        self.movies: list[str] = []

    def rows(self, which: Sequence[int]) -> str:
        """Rows in words: "lines 3 (movie 0010), 4 (movie 0010) and 5 more"."""
        named = [f"{self.lines[i]}" + (f" (movie {self.movies[i]})" if self.movies else "") for i in which[:SHOWN]]
        rest = f" and {len(which) - SHOWN} more" if len(which) > SHOWN else ""
        return f"line{'s' * (len(which) > 1)} {', '.join(named)}{rest}"

    def column(self, field: str) -> list[Any]:
        """The cells of a field, None for a cell without a value. PredictionsError: a line of JSON without the key."""
        name = self.columns[field]
        absent = [i for i, row in enumerate(self.cells) if name not in row]
        if absent:
            raise PredictionsError(f"{self.path}: no key {name!r}, which other lines have, in {self.rows(absent)}")
        cells = [row[name] for row in self.cells]
        return [None if cell in MISSING or cell != cell else cell for cell in cells]

    def text(self, field: str, notes: list[str], least: str | None) -> list[str]:
        """The stripped texts of a field; least: what a cell must have, None if it may be empty."""
        cells, name = self.column(field), self.columns[field]
        if field == "movie":
            cells = [str(cell) if isinstance(cell, int) else cell for cell in cells]  # JSON
        if wrong := [i for i, cell in enumerate(cells) if not isinstance(cell, str | None)]:
            raise PredictionsError(f"{self.path}: {name} must be text, got {cells[wrong[0]]!r} in {self.rows(wrong)}")
        values = [(cell or "").strip() for cell in cells]
        empty = [i for i, value in enumerate(values) if not value]
        if empty and least:
            raise PredictionsError(f"{self.path}: {name} is empty or nan and must be {least}: {self.rows(empty)}")
        if empty:
            notes.append(f"{self.path}: {name} is empty or nan: an empty answer, in {self.rows(empty)}")
        if damaged := [i for i, value in enumerate(values) if REPLACED in value]:
            notes.append(f"{self.path}: {name} has bytes that are not UTF-8 (now U+FFFD) in {self.rows(damaged)}")
        return values

    def seconds(self, field: str) -> list[float]:
        """The numbers of a field; an empty list if the column is absent or empty."""
        if field not in self.columns:
            return []
        cells, name = self.column(field), self.columns[field]
        empty = [i for i, cell in enumerate(cells) if cell is None or not str(cell).strip()]
        if len(empty) == len(cells):
            return []
        if empty:
            raise PredictionsError(f"{self.path}: {name} is empty, and is not in other rows: {self.rows(empty)}")
        values = pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce").astype(float).tolist()
        if wrong := [i for i, value in enumerate(values) if not math.isfinite(value)]:
            raise PredictionsError(
                f"{self.path}: {name} must be a number of seconds, got {cells[wrong[0]]!r} in {self.rows(wrong)}"
            )
        return values

    def refuse_repeats(self, rows: Sequence[Mapping[str, Any]], notes: list[str]) -> None:
        """Refuses the same movie, start and reference twice; another reference at the same start may be intended."""
        seen: set[tuple] = set()
        twice, shared = [], []
        for i, row in enumerate(rows):
            place = (row["movie"], row["start"])
            if (*place, row["reference"]) in seen:
                twice.append(i)
            elif place in seen:
                shared.append(i)
            seen |= {place, (*place, row["reference"])}
        if twice:
            raise PredictionsError(
                f"{self.path}: the same movie, start and reference as an earlier row: {self.rows(twice)}; every "
                "sentence is scored once"
            )
        if shared:
            notes.append(f"{self.path}: the same movie and start as an earlier row in {self.rows(shared)}; all count")
