"""The one exception for bad or missing data, and the words that its messages share."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class DataError(ValueError):
    """Data that cannot be used. The message names the file, the key and the row, and says what to do."""


class MissingLibraryError(DataError, ImportError):
    """Data of a kind whose reader is not installed. The message says how to get it."""


def some(items, limit: int = 8) -> str:
    """The first `limit` items in words: "a, b, c and 5 more"."""
    items = [str(item) for item in items]
    rest = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {rest} more" if rest > 0 else "")


def near(word: Any, allowed: Iterable[Any]) -> str:
    """The text " Did you mean 'x'?" with the nearest of `allowed`, or "" if none is near."""
    found = get_close_matches(str(word), [str(one) for one in allowed], 1)
    return f" Did you mean '{found[0]}'?" if found else ""
