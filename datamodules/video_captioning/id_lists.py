"""Lists of ids, one file for each split, as retrieval papers hand them out (JSFUSION's 1k-A, train.9k).

    read_ids(Path("MSRVTT_JSFUSION_test.csv"))     # ["video9770", "video7020", ...]

A table with a column of ids, a text file with an id on each line, a json list of ids or of rows, or JSON lines. Ids may
end like video files.
"""

from pathlib import Path
from typing import Any

from datamodules.errors import DataError, some
from datamodules.formats.decoding import UTF8
from datamodules.formats.json_text import LINES, value_or_lines
from datamodules.formats.separated import header_of, rows_of, separator_of
from datamodules.formats.text import read_text
from datamodules.video_captioning.fields import VIDEO, bare


def read_ids(path: Path, encoding: str = UTF8) -> list[str]:
    """The ids of a list, in its order, without the endings of video files; an id may be there again.

    Raises DataError: unreadable, no id, several columns of which none is known to hold ids.
    """
    text = read_text(path, encoding, setting="data.encoding")
    if path.suffix.lower() in (".json", *LINES):
        ids = _of_json(path, value_or_lines(path, text)[0])
    else:
        ids = _of_table(path, text)
    ids = [bare(one.strip()) for one in ids]
    if not any(ids):
        raise DataError(f"{path}: no id in this list.")
    if "" in ids:
        raise DataError(
            f"{path}: {ids.count('')} of the {len(ids)} ids are empty, the first is number {ids.index('')}."
        )
    return ids


def _of_table(path: Path, text: str) -> list[str]:
    def column(names: list[str]) -> str | None:
        return next((name for group in VIDEO for name in group if name in names), None)

    separator = separator_of(text, lambda names: column(names) is not None)
    header = header_of(text, separator)
    if column(header) is not None:
        table = rows_of(path, text, lambda names: column(names) is not None)
        return [row[column(table.columns)] for row in table.rows]
    lines = [line for line in text.split("\n") if line.strip()]
    if len(header) > 1:
        raise DataError(
            f"{path}: no column of ids; its columns are {some(header)}. A list has one of {some(VIDEO[0])}, or an id "
            "on each line and nothing else."
        )
    return [line.strip().strip('"') for line in lines]


def _of_json(path: Path, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise DataError(f"{path}: expected a list of ids, found a {type(value).__name__}.")
    ids = []
    for number, entry in enumerate(value):
        if isinstance(entry, dict):
            key = next((name for group in VIDEO for name in group if name in entry), None)
            entry = None if key is None else entry[key]
        if isinstance(entry, bool) or not isinstance(entry, str | int):
            raise DataError(f"{path}, entry {number}: expected an id, or a row with {some(VIDEO[0])}.")
        ids.append(str(entry))
    return ids
