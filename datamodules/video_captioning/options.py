"""Which options of the data module for captioned videos exclude each other. Its annotations give the ranges of single
options.

check({"short_side": 32, "image_size": 64, ...})    # DataError: data.short_side=32 is smaller than data.image_size=64
"""

from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.errors import DataError, some
from datamodules.formats.decoding import check_encoding
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
    check_encoding(given["encoding"])
    lists = given["lists"]
    if lists is not None and (set(lists) - set(SPLITS) or lists.get("train") is None):
        raise DataError(f"data.lists has the keys {', '.join(lists)}; allowed: {', '.join(SPLITS)}, train needed.")
    if lists is not None and "all" not in given["annotation_files"]:
        raise DataError(
            "data.lists and a file for each split (data.annotations) both say the splits; give one of them."
        )
    if given["split_names"].get("train") is None:
        raise DataError("data.splits.train is null: no clips would be left for training.")


def files_of(annotations: str | Sequence[str] | Mapping[str, str | Sequence[str] | None]) -> dict[str, list[str]]:
    """Split -> its annotation files; "all" if the files say themselves which split a clip is in.

    Raises DataError: no file, an unknown split, no file of the training split.
    """
    if isinstance(annotations, str):
        return {"all": [annotations]}
    if not isinstance(annotations, Mapping):
        files = {"all": list(annotations)}
    else:
        if unknown := [split for split in annotations if split not in SPLITS]:
            raise DataError(f"data.annotations: unknown split {some(unknown)}, allowed: {', '.join(SPLITS)}.")
        given = {split: annotations.get(split) for split in SPLITS}
        files = {
            split: [] if name is None else [name] if isinstance(name, str) else list(name)
            for split, name in given.items()
        }
    if not files.get("all", files.get("train")):
        raise DataError("data.annotations names no file of training captions.")
    return files
