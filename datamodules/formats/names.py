"""Ids that become the names of files: an id with `..`, a separator or an absolute path in it would lead elsewhere.

file_name("video7", "data/MSRVTT.json")      # "video7"
file_name("../../home", "data/MSRVTT.json")  # DataError
"""

from typing import Any

from datamodules.errors import DataError

LONGEST = 200  # bytes; most file systems allow 255, and an ending is added


def file_name(name: Any, where: str) -> str:
    """`name` as text. Raises DataError, which begins with `where`, if it cannot be the name of a file in a folder."""
    text = str(name)
    if what := misnamed(text):
        shown = repr(text) if len(text) <= 80 else f"{text[:80]!r}... ({len(text)} letters)"
        raise DataError(f"{where}: the id {shown} {what}; an id names a file and must not lead to another folder.")
    return text


def misnamed(name: str) -> str:
    """What is wrong with an id as the name of a file, or ""."""
    if name.strip() in ("", ".", ".."):
        return "is not a name"
    if "/" in name or "\\" in name:
        return "has a path separator"
    if not name.isprintable():
        return "has letters that cannot be printed"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "is not text"
    return f"is longer than {LONGEST} bytes" if size > LONGEST else ""


def printable(what: object) -> str:
    """A path, or a text with one in it, also if its bytes are not text."""
    return str(what).encode(errors="backslashreplace").decode()
