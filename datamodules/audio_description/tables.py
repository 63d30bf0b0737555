"""Tables of MAD as they are in their files: csv (MAD-v2, MAD-eval, subtitles) and json (MAD-v1), all cells as text.

    table = read_table("mad-v2-ad-unnamed.csv", ANNOTATIONS)   # columns movie, start, end, text, ann_id, row

A csv names its columns in several ways (ANNOTATIONS: name -> what is accepted for it). The json is MAD-v1's
{ann_id: {movie, movie_duration, timestamps: [start, end], sentence}}. Nothing is repaired or left out here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from datamodules.errors import DataError, near, some
from datamodules.formats.guard import reading
from datamodules.formats.json_text import read_json
from datamodules.formats.text import last_byte, note_cut

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


def read_table(path: str | Path, aliases: Aliases, optional: Aliases = DURATION) -> pd.DataFrame:
    """All rows in the file's order: the columns of `aliases`, those of `optional` that are there, ann_id, row.

    Cells are str, stripped; row is the place in the file as an int, 0 for the first row after a csv's header or the
    first annotation of a json. A cell that is missing is "". Bytes that are not UTF-8 are U+FFFD.

    Raises DataError: unreadable file, no such column (and which there are), two columns of one name.
    """
    path = Path(path)
    raw = _of_json(path, aliases, optional) if path.suffix == ".json" else _of_csv(path)
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


def _of_csv(path: Path) -> pd.DataFrame:
    with reading(f"{path}: not a readable csv file"):
        # the header as a row like all others: pandas would take the first of too many cells for the row's name
        cells = pd.read_csv(
            path, header=None, dtype=str, keep_default_na=False, encoding="utf-8", encoding_errors="replace"
        )
    if path.suffix == ".csv":  # a packed one has a checksum
        note_cut(path, last_byte(path))
    header = cells.iloc[0].fillna("").str.strip()
    if len(twice := header[header.duplicated() & (header != "")]):
        raise DataError(f"{path}: more than one column is called {some(twice.unique())}.")
    return cells[1:].set_axis(header.tolist(), axis=1).reset_index(drop=True)


def _of_json(path: Path, aliases: Aliases, optional: Aliases) -> pd.DataFrame:
    content = read_json(path, errors="replace", pairs=Pairs)
    expected = "expected {ann_id: {movie, timestamps: [start, end], sentence}}"
    if not isinstance(content, Pairs):
        raise DataError(f"{path}: {expected}, found a {type(content).__name__}.")
    if wrong := [name for name, fields in content if not isinstance(fields, Pairs)]:
        raise DataError(f"{path}: {expected}; another form under {some(wrong)}.")
    wanted = {alias for names in {**aliases, **optional}.values() for alias in names}
    rows = []
    for name, pairs in content:
        fields = dict(pairs)
        times = next((fields[key] for key in TIMES if key in fields), None)
        start, end = times if isinstance(times, list) and len(times) == 2 else ("", "")
        row = {"start": start, "end": end, **{key: value for key, value in fields.items() if key in wanted}}
        if nested := [key for key in row if key not in ("start", "end") and isinstance(row[key], list)]:
            raise DataError(f"{path}: {expected}; under {name}, {nested[0]} is not text.")
        rows.append({key: _text(value) for key, value in {**row, "ann_id": name}.items()})
    return pd.DataFrame(rows, columns=None if rows else ["ann_id"])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else repr(value)
