"""A small image folder, functions that write images into it, and the datamodule on it."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from datamodules.image_classification import Images

COUNTS = {
    "train": {"n01": 7, "n02": 5, "n03": 13},
    "val": {"n01": 2, "n02": 1, "n03": 4},
}
SETTINGS = {
    "train_images": 60,
    "val_images": 20,
    "test_images": 30,
    "image_size": 32,
    "grid": 2,
    "digits": 4,
    "min_side": 9,
    "max_side": 12,
    "contrast": 0.5,
    "noise": 0.1,
}
KEYWORDS = {
    "train": "train",
    "val_split": 4,
    "test": "val",
    "image_size": 16,
    "batch_size": 4,
    "eval_batch_size": 3,
    "augment": "none",
}


AUTO = {"format": "auto", "train": "auto", "val_split": "auto", "test": "auto"}


def encoded(image: Image.Image, form: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def picture(seed: int, width: int = 24, height: int = 20) -> Image.Image:
    """Smooth colours, so that JPEG keeps them roughly."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_images(root: Path, counts=COUNTS) -> Path:
    """root/<split>/<class>/<number>.JPEG, images of several sizes."""
    number = 0
    for split, classes in counts.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                number += 1
                image = picture(number, width=17 + number % 9, height=16 + number % 7)
                (root / split / name / f"{index:02d}.JPEG").write_bytes(encoded(image))
    return root


def open_images(root: Path, **changes) -> Images:
    """The datamodule on `root`, ready; keywords replace the usual ones."""
    data = Images(**{**KEYWORDS, "root": str(root), **changes})
    data.prepare_data()
    data.setup()
    return data


def names_of(data: Images, split: str) -> list[str]:
    pictures = data.pictures[split]
    return [pictures.name(index) for index in range(len(pictures))]


def batches(data: Images, split: str, epoch: int = 0) -> list[dict]:
    loader = getattr(data, f"{split}_dataloader")()
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)
    return list(loader)


def joined(found: list[dict]) -> dict:
    return {
        "image": torch.cat([batch["image"] for batch in found]),
        "label": torch.cat([batch["label"] for batch in found]),
        "name": [name for batch in found for name in batch["name"]],
    }


def same(a: list[dict], b: list[dict]) -> bool:
    return len(a) == len(b) and all(
        x["name"] == y["name"] and torch.equal(x["label"], y["label"]) and torch.equal(x["image"], y["image"])
        for x, y in zip(a, b, strict=True)
    )


def rows(images: Path, split: str) -> list[tuple[bytes, str]]:
    return [(path.read_bytes(), path.parent.name) for path in sorted((images / split).rglob("*.JPEG"))]


def opened_again(root, facts, **changes) -> Images:
    """The data module in a test of weights that were trained on `facts`."""
    data = Images(**{**KEYWORDS, "root": str(root), **changes})
    data.only_test(facts)
    data.prepare_data()
    data.setup()
    return data
