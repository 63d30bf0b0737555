"""What takes the place of described movies that are not there (datamodules/stand_in.py)."""

from collections.abc import Mapping
from typing import Any

import torch

from datamodules.stand_in import TEXTS, StandIn, sentence


def facts_of(data: Mapping[str, Any]) -> dict[str, Any]:
    facts = {name: data[name] for name in ("video_dim", "audio_dim", "tokens", "previous", "previous_count")}
    return facts | {"subtitles": data["subtitles"] is not None, "train_texts": TEXTS}


def batch_of(facts: dict[str, Any], words: int) -> dict[str, Any]:
    tokens, keep = facts["tokens"], torch.ones(1, facts["tokens"], dtype=torch.bool)
    batch = {"video": torch.randn(1, tokens, facts["video_dim"]), "audio": torch.randn(1, tokens, facts["audio_dim"])}
    batch |= {"video_keep": keep, "audio_keep": keep, "text": [sentence(words)], "ann_id": ["0"], "movie": ["a movie"]}
    batch |= {name: torch.tensor([second], dtype=torch.float64) for name, second in (("start", 0), ("end", 5))}
    context = {"previous": facts["previous"] != "none", "subtitles": facts["subtitles"]}
    return batch | {name: [[]] for name, given in context.items() if given}  # `words` fills up what it leaves


def stand_in(data: Mapping[str, Any]) -> StandIn:
    facts = facts_of(data)
    return StandIn(facts, lambda words: batch_of(facts, words))
