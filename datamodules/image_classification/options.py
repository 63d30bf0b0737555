"""Which options of the data module for images exclude each other. Its annotations give the ranges of single options.

check({"shift": 2, "augment": "timm", ...})     # DataError: data.shift=2 does nothing with data.augment=timm; ...
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from configs.knobs import Range
from datamodules.errors import DataError
from datamodules.image_classification.layout import AUTO


def _holds_out(value: float) -> bool:
    return value >= 0 and (isinstance(value, int) or value < 1)


HeldOut = Annotated[float, Range(_holds_out, "at least 0: a number of images, or a share below 1")]


def check(given: Mapping[str, Any]) -> None:
    """given: name -> value of every option. DataError: what was given and what is allowed."""
    if given["overlap"] == "refuse":
        _check_places(Path(given["root"]), given["train"], given["val_split"], given["test"])
    _check_pairs(given)


def _check_places(root: Path, train: str, val_split: str | float, test: str | float) -> None:
    """Two names may mean one place: `train/`, `train/../train`, a link."""

    def same(one: str | float, other: str) -> bool:
        return isinstance(one, str) and (root / one).resolve() == (root / other).resolve() and one != AUTO

    if same(test, train):
        both = f"are both {test!r}" if Path(test) == Path(train) else f"are one place, {train!r} and {test!r}"
        raise DataError(f"data.train and data.test {both}: tested on what was trained on.")
    if same(val_split, train):
        raise DataError(
            f"data.val_split={val_split!r} is data.train; a number holds that many of the training images out."
        )


def _check_pairs(given: Mapping[str, Any]) -> None:
    if given["shift"] and given["augment"] not in ("shift", "shift_flip"):
        raise DataError(f"data.shift={given['shift']} does nothing with data.augment={given['augment']}; set it to 0.")
    if given["in_memory"] is True and given["augment"] == "timm":
        raise DataError(
            "data.in_memory=true holds transformed pixels, which data.augment=timm makes anew in every epoch. auto "
            "holds the validation and test images alone."
        )
    if isinstance(given["test"], float) and not 0 < given["test"] < 1:
        raise DataError(
            f"data.test={given['test']}: a folder, a pattern, or a share of the images, above 0 and below 1."
        )
    if given["repeats"] > 1 and given["augment"] == "none":
        raise DataError(f"data.repeats={given['repeats']} shows an image so often, and data.augment=none changes none.")
    if given["mini"] is not None and given["format"] in ("parquet", "webdataset"):
        raise DataError(f"data.format={given['format']}: generated data (data.mini) are an image folder.")
    if given["mini"] is not None and given["image_size"] != (made := given["mini"].image_size):
        raise DataError(
            f"data.image_size={given['image_size']}, but data.mini.image_size={made}: generated images are used at the "
            "size they are made in."
        )
