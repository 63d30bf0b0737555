"""Fake images in folders (datamodules/fake.py)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.fake import Fake

IMAGES = {"train": 1_281_167, "test": 50_000}  # of ImageNet-1K
BYTES = 110_000  # of an image, on average
CLASSES = ("n01440764", "n01443537")
PER_CLASS = 12


def write(folder: Path, data: Mapping[str, Any]) -> Fake:
    """ImageNet's layout: train/<class>/<image>.JPEG; shards of Parquet are not faked, the folders take their place."""
    random = np.random.default_rng(0)
    val = data["val_split"]
    val = 0.1 if val == "auto" else val
    names = ("train", val if isinstance(val, str) else None, "val")
    for name in filter(None, names):
        for label in CLASSES:
            place = folder / name / label
            place.mkdir(parents=True, exist_ok=True)
            for number in range(PER_CLASS):
                pixels = random.integers(0, 256, (375, 500, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{label}_{number}.JPEG", quality=50)
    held = 0 if isinstance(val, str) else round(val * IMAGES["train"]) if 0 < val < 1 else val
    settings = {"format": "folder", "train": "train", "test": "val", "class_index": None}
    if held:
        settings["val_split"] = 4
    training = round((IMAGES["train"] - held) * data["fraction"])
    words = f"{sum(IMAGES.values()):,} images of about {BYTES / 1e3:.0f} kB"
    return Fake(len(CLASSES) * PER_CLASS - 4 * bool(held), training, sum(IMAGES.values()) * BYTES, words, settings)
