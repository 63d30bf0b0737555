"""What takes the place of captioned videos that are not there (datamodules/stand_in.py)."""

from collections.abc import Mapping
from typing import Any

import torch

from datamodules.stand_in import NONE_SKIPPED, TEXTS, StandIn, sentence

PATCH = (2, 32)  # frames and pixels along a side that make one of Video Swin's tokens


def facts_of(data: Mapping[str, Any]) -> dict[str, Any]:
    grid = width = None
    if data["source"] == "features":  # the files say how many rows they have; SwinBERT's have as many as its backbone's
        side, width = -(-data["image_size"] // PATCH[1]), data["features"]["dim"]
        grid = -(-data["frames"] // PATCH[0]) * side**2
    facts = {"frames": data["frames"], "image_size": data["image_size"], "grid": grid, "feature_dim": width}
    return facts | {"train_texts": TEXTS, "skipped": NONE_SKIPPED}


def batch_of(facts: dict[str, Any], words: int) -> dict[str, Any]:
    text = sentence(words)
    batch = {"caption": [text], "references": [[text]], "video": ["a video"]}
    if facts["grid"] is not None:
        return batch | {"features": torch.randn(1, facts["grid"], facts["feature_dim"])}
    size = facts["image_size"]
    return batch | {"frames": torch.randn(1, facts["frames"], 3, size, size)}


def stand_in(data: Mapping[str, Any]) -> StandIn:
    facts = facts_of(data)
    return StandIn(facts, lambda words: batch_of(facts, words))
