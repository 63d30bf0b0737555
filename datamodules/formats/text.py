"""Text files: read whole, and a word about files that seem to be cut off within their last line."""

import logging
from pathlib import Path

from datamodules.formats.guard import reading

log = logging.getLogger(__name__)


def read_text(path: Path, encoding: str = "utf-8", problem: str = "") -> str:
    """The text of a file. Raises DataError: no such file, or another encoding."""
    with reading(problem or f"{path}: not a readable text file"):
        return path.read_text(encoding=encoding)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Number and text of each line that is not blank; a file whose last line has no end is named in the log.

    Lines end at "\\n" alone: splitlines would also split at U+2028 within a sentence. Raises DataError like read_text.
    """
    text = read_text(path)
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
