"""Lets a mistyped key reach `validate`, which knows what the user may have meant; Hydra alone would only refuse it.

    mask.fusoin=add  ->  ++mask.fusoin=add  ->  "mask.fusoin: unknown key; did you mean 'fusion'? ..."

For the same reason an argument that a class has and its YAML leaves out needs no `+`: `trainer.limit_val_batches=3`.
"""

import re
from collections.abc import Sequence

from configs.resolvers import ROOT

GROUPS = frozenset(path.name for path in (ROOT / "configs").iterdir() if path.is_dir() and path.name[0] not in "_.")
VALUE = re.compile(r"([A-Za-z_][\w.\-]*)=")


def marked(arguments: Sequence[str]) -> list[str]:
    """`arguments` with Hydra's mark "add or change" before every plain `key=value` that is no choice from a group."""

    def is_value(argument: str) -> bool:
        match = VALUE.match(argument)
        return bool(match) and match[1] not in GROUPS and not match[1].startswith("hydra.")

    return [f"++{argument}" if is_value(argument) else argument for argument in arguments]


def unmarked(arguments: Sequence[str]) -> list[str]:
    """The same arguments as the user wrote them."""
    return [argument.removeprefix("++") for argument in arguments]
