"""Which options of the data module for images exclude each other. Its annotations give the ranges of single options.

check({"shift": 2, "augment": "timm", ...})     # DataError: data.shift=2 does nothing with data.augment=timm; ...
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.errors import DataError


def check(given: Mapping[str, Any]) -> None:
    """given: name -> value of every option. DataError: what was given and what is allowed."""
    root, val_split = Path(given["root"]), given["val_split"]
    if root / given["train"] == root / given["test"]:  # as paths: "train/" is "train"
        raise DataError(f"data.train and data.test are both {given['test']!r}: tested on what was trained on.")
    if isinstance(val_split, str) and root / val_split == root / given["train"]:
        raise DataError(
            f"data.val_split={val_split!r} is data.train; a number holds that many of the training images out."
        )
    _check_pairs(given)


def _check_pairs(given: Mapping[str, Any]) -> None:
    if given["shift"] and given["augment"] not in ("shift", "shift_flip"):
        raise DataError(f"data.shift={given['shift']} does nothing with data.augment={given['augment']}; set it to 0.")
    if given["in_memory"] is True and given["augment"] == "timm":
        raise DataError(
            "data.in_memory=true holds transformed pixels, which data.augment=timm makes anew in every epoch. auto "
            "holds the validation and test images alone."
        )
    if given["mini"] is not None and given["format"] == "parquet":
        raise DataError(f"data.format={given['format']}: generated data (data.mini) are an image folder.")
    if given["mini"] is not None and given["image_size"] != (made := given["mini"].image_size):
        raise DataError(
            f"data.image_size={given['image_size']}, but data.mini.image_size={made}: generated images are used at the "
            "size they are made in."
        )
