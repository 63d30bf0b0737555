"""Text files: read whole, and a word about files that seem to be cut off within their last line."""

import logging
from pathlib import Path
from typing import Any

from datamodules.formats.decoding import UTF8, decoded
from datamodules.formats.guard import reading

log = logging.getLogger(__name__)


def read_text(path: Path, encoding: str = UTF8, problem: str = "", **options: Any) -> str:
    """The text of a file, without the mark (BOM) that may begin it; line ends become "\\n".

    problem: what messages begin with; options: those of `decoded`. Raises DataError: no such file, bytes of another
    encoding.
    """
    problem = problem or f"{path}: not a readable text file"
    with reading(problem):
        data = path.read_bytes()
    return decoded(problem, data, encoding, **options).replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of each line that is not blank; a file whose last line has no end is named in the log.

    Raises DataError like read_text.
    """
    return lines_of(path, read_text(path))


def lines_of(path: Path, text: str) -> list[tuple[int, str]]:
    """As read_lines, of a file's text. Lines end at "\\n" alone: splitlines would also split at U+2028 within a
    sentence."""
    note_cut(path, text[-1:])
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def note_cut(path: Path, last: str | bytes) -> None:
    """Warns if the last letter of a file of lines is not the end of a line: the file may have been cut off there."""
    if last and last not in ("\n", "\r", b"\n", b"\r"):
        log.warning("%s: no line end after its last line; if the file was cut off, its last rows are missing", path)


def last_byte(path: Path) -> bytes:
    """The last byte of a file; empty for an empty or an unreadable one, about which its reader says more."""
    try:
        with path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1)
    except OSError:
        return b""
