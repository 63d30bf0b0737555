"""Annotations of MAD-v2, MAD-eval (csv) and MAD-v1 (json), cleaned and sorted. What is left out is counted and named.

    table = read_annotations("mad-v2-ad-unnamed.csv")   # columns movie, start, end, text, ann_id, row

Columns (aliases): movie; start | start_time; end | end_time; text | sentence | text_gt. Times are seconds. The column
ann_id is optional; without it a row is named "<file stem>:<row>", row 0 being the first after the header. The forms of
the files are documented in tables.py.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from datamodules.audio_description.tables import ANNOTATIONS, REPLACED, Aliases, read_table
from datamodules.audio_description.tables import annotation_id as annotation_id
from datamodules.errors import DataError, some
from datamodules.formats.decoding import UTF8

log = logging.getLogger(__name__)

LeftOut = list[tuple[str, str]]  # the movie of a row, and why it is left out


def seconds(column: pd.Series) -> pd.Series:
    """Text -> float64 seconds; NaN for every text that is not a finite number."""
    values = pd.to_numeric(column, errors="coerce").astype(float)
    return values.where(np.isfinite(values))


def read_annotations(
    path: str | Path,
    level: int = logging.WARNING,
    *,
    aliases: Aliases = ANNOTATIONS,
    of: str = "caption",
    encoding: str = UTF8,
    left_out: LeftOut | None = None,
) -> pd.DataFrame:
    """Rows of an annotation file, stably sorted by (movie, start).

    aliases: what its columns may be called; of: what the log calls its texts; encoding: of a file without a mark (BOM).
    left_out: gets (movie, reason) of each row that is left out.

    Columns movie str (leading zeros kept), start, end float64 seconds, text str, ann_id str, row int (place in file).
    Bytes that are not UTF-8 become U+FFFD; a start below 0 becomes 0. Rows with an empty caption, or with end <= start
    after that, are left out. Each of these is logged at `level` with its number and its first rows.

    Raises DataError: unreadable file, missing column, a time that is not a number, no usable row, ann_id twice.
    """
    path = Path(path)
    table = read_table(path, aliases, optional={}, encoding=encoding)
    twice = table["ann_id"][table["ann_id"].duplicated()]
    if len(twice):
        raise DataError(f"{path}: ann_id not unique: {some(twice.unique())}.")
    for name in ("start", "end"):
        times = seconds(table[name])
        wrong = table[times.isna()]
        if len(wrong):
            first = wrong.iloc[0]
            comma = " (a decimal point is expected, not a comma)" if "," in first[name] else ""
            raise DataError(
                f"{path}: column {name} is not a number of seconds in {len(wrong)} rows; "
                f"the first is row {first['row']}: {first[name]!r}{comma}."
            )
        table[name] = times

    def note(what: str, bad: pd.Series) -> None:
        if bad.any():
            log.log(level, "%s: %s in %d rows: row %s", path, what, bad.sum(), some(table["row"][bad]))

    note("has bytes that are not UTF-8 (replaced by U+FFFD)", table["text"].str.contains(REPLACED))
    note("start is negative (set to 0)", table["start"] < 0)
    table["start"] = table["start"].clip(lower=0.0)
    empty = table["text"] == ""
    reversed_times = (table["end"] <= table["start"]) & ~empty
    note(f"{of} is empty (left out)", empty)
    note("end is not after start (left out)", reversed_times)
    if left_out is not None:
        for reason, bad in (
            (f"row whose {of} is empty", empty),
            ("row whose end is not after its start", reversed_times),
        ):
            left_out += [(movie, reason) for movie in table["movie"][bad]]
    table = table[~empty & ~reversed_times]
    if table.empty:
        raise DataError(f"{path}: no usable row.")
    return table.sort_values(["movie", "start"], kind="stable", ignore_index=True)
