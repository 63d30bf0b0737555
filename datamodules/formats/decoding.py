"""Bytes to text: the mark at a file's beginning (BOM) says its encoding, or else a setting does.

    decoded(path, path.read_bytes())                              # DataError: what is not UTF-8, and where
    decoded(path, path.read_bytes(), "cp1252")                    # "café" of an old Windows file
    decoded(path, path.read_bytes(), "utf-8", errors="replace")   # U+FFFD for every byte that is not UTF-8

UTF-8, UTF-16 and UTF-32 are recognised by their marks; UTF-16 without one is refused, with the encoding to set.
"""

import codecs

from datamodules.errors import DataError, near

UTF8 = "utf-8"
MARKS = (  # UTF-32's begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
COMMON = ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1", "gb18030", "shift_jis", "euc-kr", "cp1251")
SHOWN = 20  # bytes of a line that are shown around the first one that does not fit


def check_encoding(name: str, setting: str = "data.encoding") -> None:
    """DataError if Python knows no encoding of text of this name."""
    try:
        b"".decode(name)
        "".encode(name)
    except (LookupError, ValueError):
        raise DataError(
            f"{setting}: there is no encoding {name!r}.{near(name, COMMON)} Some that there are: {', '.join(COMMON)}."
        ) from None


def decoded(
    where: object, data: bytes, encoding: str = UTF8, *, errors: str = "strict", setting: str | None = None
) -> str:
    """The text of a file's bytes without the mark, which outweighs `encoding`.

    where: what messages begin with, such as the file's path; setting: what the user would set to read another encoding.
    errors: what becomes of bytes that do not fit, as in bytes.decode. Raises DataError: bytes that do not fit, with
    their place, and UTF-16 without a mark.
    """
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), encoding)
    if encoding == UTF8 and (wide := _unmarked(data)):
        way = f"convert it to {UTF8}" if setting is None else f"{setting}={wide} reads it"
        raise DataError(f"{where}: every second byte is zero, so it seems to be {wide}; {way}.")
    try:
        return data.decode(encoding, errors=errors)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        around = data[max(0, error.start - SHOWN) : error.start + SHOWN].decode("ascii", errors="backslashreplace")
        way = f"convert it to {UTF8}" if setting is None else f"{setting}=cp1252 reads files of older Windows programs"
        raise DataError(
            f"{where}: not {encoding} text: byte 0x{data[error.start]:02x} at position {error.start:,} (line {line:,}, "
            f"in {around!r}); {way}."
        ) from error


def _unmarked(data: bytes) -> str | None:
    """The encoding of UTF-16 text without a mark: if it has Latin letters, every second byte is zero."""
    head = data[:400]
    for first, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        other = head[1 - first :: 2]
        if len(head) >= 4 and not any(head[first::2]) and other and all(other):
            return name
    return None
