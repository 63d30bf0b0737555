"""What takes the place of text that is not there (datamodules/stand_in.py)."""

from collections.abc import Mapping
from typing import Any

import torch

from datamodules.stand_in import StandIn

CHARACTERS = "".join(chr(code) for code in range(32, 97))  # 65, as many as tiny Shakespeare has


def facts_of(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"context": data["context"], "characters": CHARACTERS}


def batch_of(facts: dict[str, Any], words: int) -> dict[str, Any]:
    """A window of random characters, whole whatever `words` is."""
    codes = torch.randint(32, 97, (1, facts["context"] + 1))
    return {"characters": codes, "name": ["train 0"]}


def stand_in(data: Mapping[str, Any]) -> StandIn:
    facts = facts_of(data)
    return StandIn(facts, lambda words: batch_of(facts, words))
