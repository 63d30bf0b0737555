"""A batch in place of moments that are not there (datamodules/stand_in.py)."""

from collections.abc import Mapping
from typing import Any

import torch

from datamodules.moment_retrieval.datamodule import Moments
from datamodules.stand_in import StandIn, sentence


def batch_of(facts: dict[str, Any], words: int) -> dict[str, Any]:
    batch = {}
    for name, length, width in (("video", facts["clips"], "video_dim"), ("text", facts["tokens"], "text_dim")):
        batch[name] = torch.randn(1, length, facts[width])
        batch[f"{name}_keep"] = torch.ones(1, length, dtype=torch.bool)
    row = {"qid": 0, "query": sentence(words), "vid": "a video", "duration": facts["duration"]}
    return batch | {"spans": [torch.tensor([[0.5, 0.2]])], "annotation": [row]}


def stand_in(data: Mapping[str, Any]) -> StandIn:
    facts = Moments(**{name: value for name, value in data.items() if name != "_target_"}).facts()  # it reads no file
    return StandIn(facts, lambda words: batch_of(facts, words))
