"""The numbers and words that configs/data/imagenet1k.yaml may hold: each has a range, and some exclude each other.

check({"fraction": 1.5, ...})     # DataError: data.fraction=1.5 must be more than 0 and at most 1.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.options import at_least, colours, one_of

LEAST = {
    "image_size": 1,
    "batch_size": 1,
    "eval_batch_size": 1,
    "num_workers": 0,
    "seed": 0,
    "shift": 0,
    "recount": 1,
    "shuffle_groups": 1,
}
PROBABILITIES = ("hflip", "vflip", "reprob")
SHARES = ("fraction", "crop_pct")
ALLOWED = {
    "format": ("folder", "parquet"),
    "augment": ("timm", "shift", "none"),
    "corrupt": ("refuse", "skip"),
    "interpolation": ("bicubic", "bilinear", "nearest"),
    "train_interpolation": ("bicubic", "bilinear", "nearest", "random"),
    "remode": ("const", "rand", "pixel"),
}


def check(given: Mapping[str, Any]) -> None:
    """given: name -> value of every option. DataError: what was given and what is allowed."""
    at_least(given, LEAST)
    one_of(given, ALLOWED)
    for name in PROBABILITIES:
        if not 0 <= (value := given[name]) <= 1:
            raise DataError(f"data.{name}={value} is a probability: 0 to 1.")
    for name in SHARES:
        if not 0 < (value := given[name]) <= 1:
            raise DataError(f"data.{name}={value} must be more than 0 and at most 1.")
    colours(given)
    for name in ("scale", "ratio"):
        value = given[name]
        if len(value) != 2 or not 0 < value[0] <= value[1]:
            raise DataError(f"data.{name}={value}: the least and the most, with 0 < least <= most.")
    if given["in_memory"] not in (True, False, "auto"):
        raise DataError(f"data.in_memory={given['in_memory']!r} is unknown, allowed: true, false, auto.")
    if (jitter := given["color_jitter"]) is not None and not jitter >= 0:
        raise DataError(f"data.color_jitter={jitter}: from 0 on, or null.")
    root, val_split = Path(given["root"]), given["val_split"]
    if root / given["train"] == root / given["test"]:  # as paths: "train/" is "train"
        raise DataError(f"data.train and data.test are both {given['test']!r}: tested on what was trained on.")
    if isinstance(val_split, str) and root / val_split == root / given["train"]:
        raise DataError(
            f"data.val_split={val_split!r} is data.train; a number holds that many of the training images out."
        )
    if not isinstance(val_split, str) and val_split < 0:
        raise DataError(f"data.val_split={val_split}: a number of images from 0 on, or the name of a split.")
    _check_pairs(given)


def _check_pairs(given: Mapping[str, Any]) -> None:
    if given["shift"] and given["augment"] != "shift":
        raise DataError(f"data.shift={given['shift']} does nothing with data.augment={given['augment']}; set it to 0.")
    if given["in_memory"] is True and given["augment"] == "timm":
        raise DataError(
            "data.in_memory=true holds transformed pixels, which data.augment=timm makes anew in every epoch. auto "
            "holds the validation and test images alone."
        )
    if given["mini"] is not None and given["format"] != "folder":
        raise DataError(f"data.format={given['format']}: generated data (data.mini) are an image folder.")
    if given["mini"] is not None and given["image_size"] != (made := given["mini"].image_size):
        raise DataError(
            f"data.image_size={given['image_size']}, but data.mini.image_size={made}: generated images are used at the "
            "size they are made in."
        )
