"""The one exception of bad or missing data."""


class DataError(ValueError):
    """Data that cannot be used. The message names the file, the key and the row, and says what to do."""


def some(items, limit: int = 8) -> str:
    """The first `limit` items in words: "a, b, c and 5 more"."""
    items = [str(item) for item in items]
    rest = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {rest} more" if rest > 0 else "")
