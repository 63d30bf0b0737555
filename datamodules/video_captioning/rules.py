"""Settings of captioned videos that do not go together, one function per rule; `validate` asks for them.

A rule gets the resolved configuration, whose types are right, and yields what to tell the user.
"""

from collections.abc import Iterator
from typing import Any


def splits_that_a_run_needs(cfg: dict[str, Any]) -> Iterator[str]:
    """Every run ends with a test, and the best weights are found by validating."""
    data = cfg["data"]
    place = "annotations" if isinstance(data.get("annotations"), dict) else "lists" if data.get("lists") else "splits"
    named = data.get(place)
    if "annotations" not in data or not isinstance(named, dict):
        return
    if named.get("test") is None:
        yield f"data.{place}.test: null: a run ends with a test; name what it tests on"
    if named.get("val") is None and cfg.get("test_checkpoint") == "best":
        yield f"data.{place}.val: null with test_checkpoint=best, which validation finds; or use test_checkpoint=last"


RULES = (splits_that_a_run_needs,)
