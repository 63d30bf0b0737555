"""Lets a mistyped key reach `validate`, which knows what the user may have meant; Hydra alone would only refuse it.

    mask.fusoin=add  ->  ++mask.fusoin=add  ->  "mask.fusoin: unknown key; did you mean 'fusion'? ..."

For the same reason an argument that a class has and its YAML leaves out needs no `+`: `trainer.limit_val_batches=3`.
"""

import re
from collections.abc import Sequence

from configs.quoting import quoted, unquoted
from configs.resolvers import ROOT
from configs.sweeping import sweeper_of

GROUPS = frozenset(path.name for path in (ROOT / "configs").iterdir() if path.is_dir() and path.name[0] not in "_.")
MARK = "++"
VALUE = re.compile(r"([A-Za-z_][\w.\-]*)=")


def marked(arguments: Sequence[str]) -> list[str]:
    """`arguments` with Hydra's mark "add or change" before every plain `key=value` that does not choose from a group.

    A key that a chosen sweep goes through is not marked: for Hydra's sweeper `++seed` and `seed` are two keys, and it
    would run the values of both.
    """
    swept = of_sweep(chosen_sweep(arguments))

    def is_value(argument: str) -> bool:
        match = VALUE.match(argument)
        return bool(match) and match[1] not in {*GROUPS, *swept} and not match[1].startswith("hydra.")

    return [f"{MARK}{quoted(argument)}" if is_value(argument) else argument for argument in arguments]


def chosen_sweep(arguments: Sequence[str]) -> str:
    """The name of the sweep that a command line chooses; empty if it chooses none."""
    return next(
        (word.removeprefix("sweep=").strip('"') for word in reversed(arguments) if word.startswith("sweep=")), ""
    )


def of_sweep(name: str) -> list[str]:
    """The keys that configs/sweep/<name>.yaml goes through; empty if there is no such sweep."""
    sweeper = sweeper_of(name)
    return list(dict.fromkeys(key for node in (sweeper["params"], *sweeper["also"]) for key in node))


def unmarked(arguments: Sequence[str]) -> list[str]:
    """The same arguments as the user wrote them."""
    return [unquoted(argument.removeprefix(MARK)) for argument in arguments]
