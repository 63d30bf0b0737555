"""Does a plain YAML value fit a Python annotation? One question, asked of every knob.

    fits("abc", int) -> False;  fits("mul", Fusion) -> True;  fits(3, float | None) -> True

An annotation that is not known here (a TypeVar, a protocol) fits everything: then the class itself decides.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import Enum
from importlib import import_module
from os import PathLike
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin


class Names(str):
    """A choice between names that a mapping of another module lists: `class Scope(Names, listed_in="lcaam.SCOPES")`.

    The module is imported only when a value is checked, since importing lcaam takes seconds. Names that were added to
    the mapping later are allowed too.
    """

    listed_in = ""

    def __init_subclass__(cls, listed_in: str):
        cls.listed_in = listed_in

    @classmethod
    def names(cls) -> list[str]:
        """The allowed names, in the mapping's order."""
        module, mapping = cls.listed_in.rsplit(".", 1)
        return list(getattr(import_module(module), mapping))


def fits(value: Any, annotation: Any) -> bool:
    """Whether `annotation` allows `value` (None, bool, int, float, str, list, dict)."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, choice) for choice in arguments)
    if origin is Annotated:
        return fits(value, arguments[0])
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if annotation in (None, NoneType):
        return value is None
    kind = origin or annotation
    if not inspect.isclass(kind) or kind in (object, Callable):
        return True
    if isinstance(value, Mapping) and "_target_" in value:
        return True  # an object to be built; `validate` compares its keywords with its own signature
    if issubclass(kind, Enum):
        return isinstance(value, str) and value in kind.__members__
    if issubclass(kind, Names):
        return isinstance(value, str) and value in kind.names()
    if kind is bool:
        return isinstance(value, bool)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if issubclass(kind, str):
        return isinstance(value, str)
    if issubclass(kind, PathLike) or kind is PathLike:
        return isinstance(value, str)
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping) and (
            len(arguments) != 2 or all(fits(k, arguments[0]) and fits(v, arguments[1]) for k, v in value.items())
        )
    if issubclass(kind, (Collection, Iterable)) or kind is Iterable:
        return isinstance(value, (list, tuple)) and _items_fit(value, kind, arguments)
    return isinstance(value, Mapping)  # another class: only an object to be built, or its keywords


def _items_fit(values: Collection, kind: type, arguments: tuple) -> bool:
    if not arguments:
        return True
    if kind is tuple and Ellipsis not in arguments:
        return len(values) == len(arguments) and all(map(fits, values, arguments))
    return all(fits(value, arguments[0]) for value in values)


def wanted(annotation: Any) -> str:
    """The annotation in words: `an int`, `a number or null`, `one of none, add, mul`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(wanted(choice) for choice in arguments))
    if origin is Annotated:
        return wanted(arguments[0])
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in arguments)
    if annotation in (None, NoneType):
        return "null"
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return "one of " + ", ".join(annotation.__members__)
    if inspect.isclass(annotation) and issubclass(annotation, Names):
        return "one of " + ", ".join(annotation.names())
    words = {int: "an int", float: "a number", bool: "true or false", str: "a string"}
    if annotation in words:
        return words[annotation]
    kind = origin or annotation
    if inspect.isclass(kind) and issubclass(kind, Mapping):
        return "a mapping"
    if inspect.isclass(kind) and issubclass(kind, PathLike):
        return "a path"
    if inspect.isclass(kind) and issubclass(kind, Iterable):
        item = wanted(arguments[0]) if len(arguments) == 1 else ""
        if item.startswith("one of "):
            return f"a list, each {item}"
        return f"a list of {item.split(' ', 1)[-1]}s" if item else "a list"
    return f"a {getattr(annotation, '__name__', annotation)}"


def choices(annotation: Any) -> list[str]:
    """The names that `annotation` allows, for the nearest match; empty if it is not a choice."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [name for part in get_args(annotation) for name in choices(part)]
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return list(annotation.__members__)
    if inspect.isclass(annotation) and issubclass(annotation, Names):
        return annotation.names()
    return []
