"""Annotation csv files of MAD-v2 and MAD-eval: read, cleaned, sorted; whatever is left out is counted and named.

    table = read_annotations("mad-v2-ad-unnamed.csv")   # columns movie, start, end, text, ann_id

Columns (aliases): movie; start | start_time; end | end_time; text | sentence | text_gt. Times are seconds. Optional
ann_id; without it a row is named "<file stem>:<row>", row 0 being the first after the header.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from datamodules.errors import DataError, some

log = logging.getLogger(__name__)

ALIASES = {"movie": ("movie",), "start": ("start", "start_time"), "end": ("end", "end_time"),
           "text": ("text", "sentence", "text_gt")}  # fmt: skip
REPLACED = "\ufffd"  # stands where a byte was not UTF-8


def annotation_id(file: str | Path, row: int) -> str:
    """Name of a row of an annotation file that has no column ann_id."""
    return f"{Path(file).stem}:{row}"


def read_annotations(path: str | Path, level: int = logging.WARNING) -> pd.DataFrame:
    """Rows of an annotation file, stably sorted by (movie, start).

    Columns movie str (leading zeros kept), start, end float64 seconds, text str, ann_id str, row int (place in file).
    Bytes that are not UTF-8 become U+FFFD; a start below 0 becomes 0. Rows with an empty caption, or with end <= start
    after that, are left out. Each of these is logged at `level` with its number and its first rows.

    Raises DataError: unreadable file, missing column, a time that is no number, no usable row, ann_id twice.
    """
    path = Path(path)
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8", encoding_errors="replace")
    except (OSError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path}: not a readable csv file ({error}).") from error
    columns = {}
    for name, aliases in ALIASES.items():
        found = [alias for alias in aliases if alias in raw.columns]
        if not found:
            raise DataError(f"{path}: no column {' or '.join(aliases)}; its columns are {', '.join(raw.columns)}.")
        columns[name] = raw[found[0]].str.strip()
    table = pd.DataFrame(columns)
    table["row"] = np.arange(len(raw))
    table["ann_id"] = raw["ann_id"] if "ann_id" in raw.columns else [annotation_id(path, row) for row in table["row"]]
    twice = table["ann_id"][table["ann_id"].duplicated()]
    if len(twice):
        raise DataError(f"{path}: ann_id not unique: {some(twice.unique())}.")
    for name in ("start", "end"):
        seconds = pd.to_numeric(table[name], errors="coerce").astype(float)
        wrong = table[~np.isfinite(seconds)]
        if len(wrong):
            first = wrong.iloc[0]
            raise DataError(
                f"{path}: column {name} is not a number of seconds in {len(wrong)} rows; "
                f"the first is row {first['row']}: {first[name]!r}."
            )
        table[name] = seconds

    def note(what: str, bad: pd.Series) -> None:
        if bad.any():
            log.log(level, "%s: %s in %d rows: row %s", path, what, bad.sum(), some(table["row"][bad]))

    note("has bytes that are not UTF-8 (replaced by U+FFFD)", table["text"].str.contains(REPLACED))
    note("start is negative (set to 0)", table["start"] < 0)
    table["start"] = table["start"].clip(lower=0.0)
    empty = table["text"] == ""
    reversed_times = (table["end"] <= table["start"]) & ~empty
    note("caption is empty (left out)", empty)
    note("end is not after start (left out)", reversed_times)
    table = table[~empty & ~reversed_times]
    if table.empty:
        raise DataError(f"{path}: no usable row.")
    return table.sort_values(["movie", "start"], kind="stable", ignore_index=True)
