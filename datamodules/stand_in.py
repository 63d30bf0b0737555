"""What takes the place of data that are not there, so that a model can be built and run anywhere.

    stand_in = Moments.stand_in(node)     # the data node of the configuration, as a dict
    stand_in.facts                        # what facts() would say, read from the configuration
    stand_in.batch(words=50)              # a batch of one sample with the contract's keys and shapes; random numbers

Sizes are the configuration's and contents are not: no score of such a model means anything. Generated data (scale=mini,
scale=smoke) need no stand-in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TEXTS = ["a word"]
NONE_SKIPPED = {"train": 0, "val": 0, "test": 0}


@dataclass(frozen=True)
class StandIn:
    """facts: those of the data module, as far as a model is built from them. batch: number of words -> a batch of one
    sample, every token of it real, its text that many words."""

    facts: dict[str, Any]
    batch: Callable[[int], dict[str, Any]]


def sentence(words: int) -> str:
    return " ".join(["w9"] * words)
