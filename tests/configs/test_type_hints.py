"""What fits an annotation, and how the message words it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, TypeVar, Union

import pytest

from configs.schema import Fusion, TestCheckpoint
from configs.type_hints import choices, fits, wanted
from lcaam.fusion import FUSIONS

T = TypeVar("T")
OLD_OPTIONAL, OLD_UNION = Optional[int], Union[int, str]  # noqa: UP007, UP045  (the spelling that Lightning uses)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, int), (1, float), (1.5, float), (True, bool), ("a", str), (None, None), (None, int | None),
        (3, OLD_OPTIONAL), ("x", OLD_UNION), ("mul", Fusion), ("best", TestCheckpoint),
        ("a", Literal["a", 1]), (1, Literal["a", 1]),
        ([1, 2], list[int]), ([1, 2], Sequence[float]), ((1, 2.5), tuple[int, float]), ([1, 2, 3], tuple[int, ...]),
        ([], list[int]), ({"a": 1}, dict[str, int]), ({}, Mapping), ("/x", Path), ("/x", str | Path), (3, Any), (3, T),
        (object(), object), (3, Annotated[int, "steps"]), ({"_target_": "x.Y"}, Fusion), ({"_target_": "x.Y"}, int),
    ],
)  # fmt: skip
def test_a_right_value_fits(value: Any, annotation: Any) -> None:
    assert fits(value, annotation)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        ("1", int), (1.0, int), (True, int), (True, float), (1, bool), (1, str), (None, int), ("", int | None),
        ("Mul", Fusion), (3, Fusion), ("first", TestCheckpoint),
        (True, Literal[1]), ("b", Literal["a"]), ([1, "x"], list[int]), ("ab", list[str]),
        ([1], tuple[int, int]), ({"a": "b"}, dict[str, int]), ([], dict), (3, Path), (3, Path | None), ("x", Exception),
    ],
)  # fmt: skip
def test_a_wrong_value_does_not_fit(value: Any, annotation: Any) -> None:
    assert not fits(value, annotation)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "an int"),
        (float | None, "a number or null"),
        (Fusion, f"one of {', '.join(FUSIONS)}"),
        (TestCheckpoint, "one of last, best"),
        (Literal["a", 1] | None, "one of a, 1 or null"),
        (list[int], "a list of ints"),
        (Sequence[Literal["a", "b"]], "a list, each one of a, b"),
        (dict[str, int], "a mapping"),
        (Path, "a path"),
    ],
)
def test_the_message_says_what_is_wanted(annotation: Any, words: str) -> None:
    assert wanted(annotation) == words


def test_choices_are_found_inside_a_union() -> None:
    assert choices(Literal["a", "b"] | Fusion | None) == ["a", "b", *FUSIONS]
    assert choices(int) == []
