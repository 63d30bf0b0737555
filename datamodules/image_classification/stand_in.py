"""What takes the place of images that are not there (datamodules/stand_in.py)."""

from collections.abc import Mapping
from typing import Any

import torch

from datamodules.stand_in import NONE_SKIPPED, StandIn

CLASSES = 1000  # of ImageNet-1K; another image folder's are in its files


def facts_of(data: Mapping[str, Any]) -> dict[str, Any]:
    facts = {"classes": CLASSES, "image_size": data["image_size"], "class_names": None, "class_folders": None}
    return facts | {"train_counts": [1] * CLASSES, "skipped": NONE_SKIPPED}


def batch_of(facts: dict[str, Any], words: int) -> dict[str, Any]:
    size = facts["image_size"]
    return {"image": torch.randn(1, 3, size, size), "label": torch.zeros(1, dtype=torch.long), "name": ["an image"]}


def stand_in(data: Mapping[str, Any]) -> StandIn:
    facts = facts_of(data)
    return StandIn(facts, lambda words: batch_of(facts, words))
