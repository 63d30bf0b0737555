"""What a trained classifier says of images without labels.

    predictor = ImagePredictor(module, settings)          # settings: the data node of the module's run
    for found in predictor.predict(images_below(Path("holiday")), top=5):
        found.path, found.answers, found.problem

`python -m scripts.predict images` does this for a run's folder.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datamodules.errors import DataError
from datamodules.formats.guard import reading
from datamodules.image_classification.folder import SUFFIXES, is_image, is_left_out
from datamodules.image_classification.matching import classes_of, shown
from datamodules.image_classification.transforms import plain
from datamodules.normalise import normalise
from datamodules.pixels import DEEP, decode
from tasks.common.errors import CheckpointError
from tasks.image_classification.module import ImageClassification


class Answer(NamedTuple):
    """A class by number, name and folder (an ImageNet id, or the name again), and its probability in [0, 1]."""

    number: int
    name: str
    folder: str
    probability: float


@dataclass(frozen=True)
class Found:
    """What is said of an image: the likeliest classes, best first; or what is wrong with the file."""

    path: Path
    answers: tuple[Answer, ...] = ()
    problem: str | None = None


def images_below(place: Path) -> list[Path]:
    """A file itself, or the images in a folder at any depth, sorted; hidden ones are left out.

    Raises DataError: nothing there, or no image.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder.")
    found, seen = [], set()
    for folder, inner, files in os.walk(place, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above it
            inner.clear()
            continue
        seen.add(real)
        inner[:] = [name for name in inner if not is_left_out(name)]
        found += [Path(folder) / file for file in files if is_image(file)]
    if not found:
        raise DataError(f"{place}: no image in it; images end in {', '.join(SUFFIXES)}.")
    return sorted(found)


class ImagePredictor:
    """A trained module with the preparation of images that its run tested with."""

    def __init__(self, module: ImageClassification, data: Mapping[str, Any], device: str = "cpu"):
        """data: the settings of the run's data. Raises CheckpointError for a device that cannot be used."""
        self.module, self.device = module.eval(), device
        try:
            module.to(device)
        except (RuntimeError, AssertionError) as error:  # torch raises either
            raise CheckpointError(f"--device {device}: cannot be used ({str(error).splitlines()[0]})") from error
        classes = classes_of(module.hparams.facts)
        self.names, self.folders = shown(classes), classes.folders
        self.transform = plain(data["image_size"], data.get("crop_pct", 0.875), data.get("interpolation", "bicubic"))
        self.mean, self.std, self.white = data["mean"], data["std"], data.get("white", DEEP)

    def prepared(self, path: Path) -> Tensor | str:
        """The pixels of an image, (3, S, S), or what is wrong with it."""
        try:
            with reading(f"{path} cannot be read"):
                data = path.read_bytes()
            return self.transform(decode(data, str(path), self.white))
        except DataError as error:
            return str(error)

    def predict(self, paths: Sequence[Path], top: int = 5, batch_size: int = 64) -> Iterator[Found]:
        """What is said of each image, in the order of `paths`."""
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(paths), batch_size):
                part = paths[start : start + batch_size]
                prepared = list(pool.map(self.prepared, part))
                good = [pixels for pixels in prepared if isinstance(pixels, Tensor)]
                answers = iter(self.answers(torch.stack(good), top) if good else ())
                for path, pixels in zip(part, prepared, strict=True):
                    if isinstance(pixels, str):
                        yield Found(path, problem=pixels)
                    else:
                        yield Found(path, next(answers))

    @torch.inference_mode()
    def answers(self, pixels: Tensor, top: int) -> list[tuple[Answer, ...]]:
        """pixels: (B, 3, S, S) uint8 -> the likeliest classes of each image, best first."""
        images = normalise(pixels, self.mean, self.std).to(self.device)
        found = self.module(images).float().softmax(-1).topk(min(top, len(self.names)))
        pairs = zip(found.indices.tolist(), found.values.tolist(), strict=True)
        return [
            tuple(Answer(i, self.names[i], self.folders[i], p) for i, p in zip(numbers, values, strict=True))
            for numbers, values in pairs
        ]
