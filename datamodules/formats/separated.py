"""Tables as text, with a comma, a semicolon, a tab or a bar between their cells: the header shows which.

    table = rows_of("P.csv", text, lambda names: "movie" in names)
    table.rows[0], table.lines[0], table.separator            # {"movie": "0010", ...}, 2, ";"

A cell that holds the separator, a quote or a line end is in double quotes, and a quote in it is doubled.
"""

import csv
import io
from collections.abc import Callable
from typing import NamedTuple

from datamodules.errors import DataError

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
COMMA = ","
ENDINGS = (".csv", ".tsv", ".txt")

Fits = Callable[[list[str]], bool]  # whether the names of columns are those of such a file


class Rows(NamedTuple):
    """The rows below the header, the line on which each begins, the columns' names, and what is between two cells."""

    rows: list[dict[str, str]]
    lines: list[int]
    columns: list[str]
    separator: str


def in_words(separator: str) -> str:
    """A separator in messages: "a semicolon (';')"."""
    return f"{SEPARATORS[separator]} ({separator!r})"


def header_of(text: str, separator: str) -> list[str]:
    """The cells of the first line that is not blank; empty if there is none."""
    line = next((line for line in io.StringIO(text) if line.strip()), "").strip("\r\n")
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:  # a cell of more letters than csv reads
        return []


def separator_of(text: str, fits: Fits) -> str:
    """The separator that makes of the first line columns that fit; if none does, the one that makes most of them."""
    headers = {separator: header_of(text, separator) for separator in SEPARATORS}
    fitting = [separator for separator, names in headers.items() if fits(names)]
    return fitting[0] if fitting else max(headers, key=lambda separator: len(headers[separator]))


def rows_of(where: object, text: str, fits: Fits) -> Rows:
    """The rows of a table with a header; blank lines are left out. `where` is what messages begin with.

    Raises DataError: a column twice, a row with more or fewer cells than the header, a quote that is not closed.
    """
    separator = separator_of(text, fits)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    rows, lines, header, begins = [], [], None, 1
    try:
        for cells in reader:
            begins, line = reader.line_num + 1, begins
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                if twice := [name for i, name in enumerate(header) if name and name in header[:i]]:
                    raise DataError(f"{where}, line {line}: column {twice[0]!r} is there twice")
                continue
            if len(cells) != len(header):
                other = "" if separator == COMMA else f" (separated by {in_words(separator)})"
                raise DataError(
                    f"{where}, line {line}: {len(cells)} cells, but the header has {len(header)}{other}; a sentence "
                    f'with {SEPARATORS[separator]} must be in double quotes, and a quote in it is doubled ("")'
                )
            rows.append(dict(zip(header, cells, strict=True)))
            lines.append(line)
    except csv.Error as error:
        raise DataError(f"{where}, line {begins} or after: not csv ({error})") from error
    return Rows(rows, lines, header or [], separator)
