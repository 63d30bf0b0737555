"""The one error of a bad configuration, and the phrase that names the nearest match."""

from collections.abc import Iterable
from difflib import get_close_matches


class ConfigError(ValueError):
    """The configuration does not make sense. Raised before anything is built; the message is for the user."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'mul'?`, or an empty string if no allowed name is close."""
    names = {str(name).casefold(): str(name) for name in reversed(list(allowed))}  # `map` is near to `mAP`
    match = get_close_matches(str(given).casefold(), names, n=1, cutoff=0.5)
    return f"; did you mean '{names[match[0]]}'?" if match else ""


def listed(names: Iterable[str]) -> str:
    """Names as the messages print them: `a, b, c`."""
    return ", ".join(str(name) for name in names)
