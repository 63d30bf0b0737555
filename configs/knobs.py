"""Ranges of numbers, written as types in the signature that takes them.

    def __init__(self, lr: Positive, layers: Count = 2, dropout: Share = 0.0): ...

`validate` reads them when it checks a configuration, and the function reads them itself when Python calls it:

    out_of_range(Model.__init__, {"lr": 0.0}, "task")
    # ["task.lr: 0.0 is out of range; allowed: a finite number above 0"]
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from configs.errors import listed, nearest

LARGEST_SEED = 2**32 - 1  # NumPy's generators take no larger one


@dataclass(frozen=True)
class Range:
    """allows: whether a number (or a list of numbers) may be used. words: what is allowed, for the message."""

    allows: Callable[[Any], bool]
    words: str


def at_least(least: float, why: str = "") -> Range:
    return Range(lambda value: value >= least, f"at least {least}{why and ': '}{why}")


def _is_share(value: float) -> bool:
    return 0 <= value < 1


Count = Annotated[int, at_least(1)]
Natural = Annotated[int, at_least(0)]
Seed = Annotated[int, Range(lambda value: 0 <= value <= LARGEST_SEED, f"0 to {LARGEST_SEED}")]
Finite = Annotated[float, Range(math.isfinite, "a finite number")]
Positive = Annotated[float, Range(lambda value: 0 < value < math.inf, "a finite number above 0")]
NotNegative = Annotated[float, Range(lambda value: 0 <= value < math.inf, "a finite number, at least 0")]
Share = Annotated[float, Range(_is_share, "at least 0 and below 1")]
Probability = Annotated[float, Range(lambda value: 0 <= value <= 1, "at least 0 and at most 1")]
Inside = Annotated[float, Range(lambda value: 0 < value < 1, "above 0 and below 1")]
PositiveShare = Annotated[float, Range(lambda value: 0 < value <= 1, "above 0 and at most 1")]
Counts = Annotated[list[int], Range(lambda values: all(value >= 1 for value in values), "numbers of at least 1")]
Betas = Annotated[
    list[float],
    Range(lambda betas: len(betas) == 2 and all(map(_is_share, betas)), "two numbers, each at least 0 and below 1"),
]
Colour = Annotated[list[float], Range(lambda values: len(values) == 3, "three numbers: red, green and blue")]
ColourSpread = Annotated[
    list[float],
    Range(lambda values: len(values) == 3 and min(values) > 0, "three numbers above 0: red, green and blue"),
]
Interval = Annotated[
    list[float],
    Range(lambda ends: len(ends) == 2 and 0 < ends[0] <= ends[1], "the least and the most, with 0 < least <= most"),
]


def problem(path: str, value: Any, annotation: Any) -> str | None:
    """What to tell the user about a value of the right type that `annotation` does not allow; None if it does."""
    if not isinstance(value, (int, float, list, tuple)) or isinstance(value, bool):
        return None
    refused = [limit for limit in _ranges(annotation) if not limit.allows(value)]
    return f"{path}: {value} is out of range; allowed: {refused[0].words}" if refused else None


def out_of_range(function: Callable, given: Mapping[str, Any], path: str = "") -> list[str]:
    """What to tell the user about the arguments `given` to `function` (or the fields of a dataclass).

    Numbers are compared with the ranges in the annotations, words with their Literals. path: before every name.
    """
    found = []
    for name, annotation in get_type_hints(function, include_extras=True).items():
        if name not in given:
            continue
        full, value = f"{path}.{name}" if path else name, given[name]
        words = _words(annotation)
        if isinstance(value, str) and words and value not in words and str not in get_args(annotation):
            switch = ["true", "false"] if bool in get_args(annotation) else []
            found.append(f"{full}: {value!r} is not one of {listed([*switch, *words])}{nearest(value, words)}")
        elif (wrong := problem(full, value, annotation)) is not None:
            found.append(wrong)
    return found


def check_ranges(instance: Any) -> None:
    """ValueError that lists the fields of a dataclass's instance that are out of range; for its __post_init__."""
    fields = {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}
    if problems := out_of_range(type(instance), fields):
        raise ValueError("\n".join(problems))


def _ranges(annotation: Any) -> Iterator[Range]:
    """The ranges of an annotation: its own, or those of the parts of a union."""
    if get_origin(annotation) is Annotated:
        yield from (extra for extra in annotation.__metadata__ if isinstance(extra, Range))
    elif get_origin(annotation) not in (list, tuple, dict, Literal):
        for part in get_args(annotation):
            yield from _ranges(part)


def _words(annotation: Any) -> list[Any]:
    """The words of a Literal, or of those in a union."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if get_origin(annotation) in (list, tuple, dict, Annotated):
        return []
    return [word for part in get_args(annotation) for word in _words(part)]
