"""Which options of the data module for captioned videos exclude each other. Its annotations give the ranges of single
options.

check({"short_side": 32, "image_size": 64, ...})    # DataError: data.short_side=32 is smaller than data.image_size=64
"""

from collections.abc import Mapping
from typing import Any

from datamodules.errors import DataError
from datamodules.video_captioning.splits import SPLITS


def check(given: Mapping[str, Any]) -> None:
    """given: name -> value of every option. DataError: what was given and what is allowed."""
    if not given["short_side"] >= given["image_size"]:
        raise DataError(
            f"data.short_side={given['short_side']} is smaller than data.image_size={given['image_size']}: the square "
            "that is cut out would not fit."
        )
    for name in ("split_names", "id_ranges"):
        value = given[name]
        if value is not None and (set(value) - set(SPLITS) or "train" not in value):
            shown = {"split_names": "splits"}.get(name, name)
            raise DataError(
                f"data.{shown} has the keys {', '.join(value)}; allowed: {', '.join(SPLITS)}, train needed."
            )
    for split, value in (given["id_ranges"] or {}).items():
        if len(value) != 2 or not 0 <= value[0] <= value[1]:
            raise DataError(f"data.id_ranges.{split}={list(value)}: the first and the last number, 0 <= first <= last.")
    if given["split_names"].get("train") is None:
        raise DataError("data.splits.train is null: no clips would be left for training.")
