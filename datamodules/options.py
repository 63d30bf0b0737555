"""Checks of data options that several data modules have.

at_least({"batch_size": 0}, {"batch_size": 1})   # DataError: data.batch_size=0 is too small; the least is 1.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from datamodules.errors import DataError


def at_least(given: Mapping[str, Any], least: Mapping[str, float]) -> None:
    """DataError where a number is below its least value, or is none."""
    for name, value in least.items():
        if not given[name] >= value:
            raise DataError(f"data.{name}={given[name]} is too small; the least is {value}.")


def one_of(given: Mapping[str, Any], allowed: Mapping[str, Iterable[str]]) -> None:
    """DataError where a word is none of those allowed; it names the nearest."""
    for name, words in allowed.items():
        if (value := given[name]) not in words:
            raise DataError(f"data.{name}={value!r} is unknown, allowed: {', '.join(words)}.{near(value, words)}")


def near(word: Any, allowed: Iterable[Any]) -> str:
    """ " Did you mean 'x'?", or nothing."""
    found = difflib.get_close_matches(str(word), [str(one) for one in allowed], 1)
    return f" Did you mean '{found[0]}'?" if found else ""


def colours(given: Mapping[str, Any]) -> None:
    """DataError where `mean` or `std` are not three numbers, of red, green and blue."""
    for name in ("mean", "std"):
        value = given[name]
        if len(value) != 3 or (name == "std" and not min(value) > 0):
            above = ", each more than 0" if name == "std" else ""
            raise DataError(f"data.{name}={value}: three numbers, of red, green and blue{above}.")
