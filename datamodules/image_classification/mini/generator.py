"""The mini image classification data: handwritten digits in clutter, as an image folder of small PNGs.

An image holds several handwritten digits of different classes, each at its own scale, place and colour, on a coloured
background with noise. One of them is framed; its digit is the class. The others are distractors, and a plain
average of the picture says nothing about which digit counts. No handwritten digit of one split occurs in another.

    folder = write_mini(root, settings, seed=0)     # folder/train/d7/000012.png, folder/val/..., folder/test/...

Beside the folders are `classes.json` (class index file), `scenes.csv` (where the framed digit is) and `oracle.csv` (the
answers of a classifier that is told where to look).
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.errors import DataError
from datamodules.mini.digits import SIDE, SPLITS, WORDS, digit_images, enlargement
from datamodules.mini.store import build_once, folder_of

FORMAT = 1  # raise whenever the same settings would give other files
NAME = "imagenet1k-mini"
CLASSES, SCENES, ORACLE, META = "classes.json", "scenes.csv", "oracle.csv", "meta.json"
FOLDERS = tuple(f"d{digit}" for digit in range(10))
MARGIN = 2  # pixels around a digit: room for the frame, and one that stays empty
READ = SIDE  # the oracle reads digits at the native size of the handwriting
MAX_READ = 6000  # training images shown to the oracle's classifier


@dataclass(frozen=True)
class MiniSettings:
    """Sizes and difficulty. Lengths are in pixels; colours and noise are on the scale of pixels in [0, 1]."""

    train_images: int
    val_images: int  # 0: no validation
    test_images: int
    image_size: int  # images are square
    grid: int  # the image is cut into grid x grid cells; a cell holds at most one digit
    digits: int  # digits on an image, of different classes; one of them is framed
    min_side: int  # smallest digit
    max_side: int  # largest digit; with 2 pixels on each side it fits into a cell
    contrast: float  # least difference between the background and a digit or the frame, in every channel; 0..1
    noise: float  # standard deviation of every pixel and channel

    def check(self) -> None:
        """DataError if no image can be made."""
        room = self.image_size // max(self.grid, 1) - 2 * MARGIN
        if min(self.train_images, self.test_images) < 10 or self.val_images < 0:
            raise DataError(
                f"mini: train_images={self.train_images} and test_images={self.test_images} must be at least 10, one "
                f"per class, and val_images={self.val_images} at least 0."
            )
        if 0 < self.val_images < 10:
            raise DataError(f"mini: val_images={self.val_images} must be 0 or at least 10, one per class.")
        if self.grid < 1 or not 1 <= self.digits <= min(self.grid**2, 10):
            raise DataError(
                f"mini: digits={self.digits} must be in 1..{min(max(self.grid, 1) ** 2, 10)}, the number of cells of "
                f"grid={self.grid} (at least 1), and there are ten classes."
            )
        if not 1 <= self.min_side <= self.max_side <= room:
            raise DataError(
                f"mini: needs 1 <= min_side={self.min_side} <= max_side={self.max_side} <= {room}, the room in a cell "
                f"of image_size={self.image_size}, grid={self.grid}."
            )
        if not 0 <= self.contrast <= 1 or not self.noise >= 0:
            raise DataError(f"mini: contrast={self.contrast} must be in 0..1 and noise={self.noise} at least 0.")


@dataclass(frozen=True)
class Scene:
    """One image and the place of its framed digit."""

    pixels: np.ndarray  # (S, S, 3) uint8
    label: int
    top: int
    left: int
    side: int  # side of the digit; the frame lies around it


def write_mini(root: Path, settings: MiniSettings, *, seed: int) -> Path:
    """The folder with the images, generated unless it is there. The same arguments give the same bytes.

    Raises DataError, before anything is written: settings without room for an image.
    """
    settings.check()
    return build_once(root, NAME, key_of(settings, seed), lambda folder: _write(folder, settings, seed))


def mini_folder(root: Path, settings: MiniSettings, seed: int) -> Path:
    """Where `write_mini` writes, whether it is there or not."""
    return folder_of(root, NAME, key_of(settings, seed))


def key_of(settings: MiniSettings, seed: int) -> dict:
    """All that the images depend on."""
    return {"format": FORMAT, "seed": seed, "settings": asdict(settings)}


def _write(folder: Path, settings: MiniSettings, seed: int) -> None:
    names = {str(digit): [FOLDERS[digit], WORDS[digit]] for digit in range(10)}
    (folder / CLASSES).write_text(json.dumps(names, indent=1) + "\n")
    scenes: dict[str, list[Scene]] = {}
    with (folder / SCENES).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["split", "name", "label", "top", "left", "side"])
        for split in SPLITS:
            count = getattr(settings, f"{split}_images")
            if not count:
                continue
            for name in FOLDERS:
                (folder / split / name).mkdir(parents=True)
            scenes[split] = list(make_scenes(split, count, settings, seed))
            for number, scene in enumerate(scenes[split]):
                name = scene_name(number, scene)
                Image.fromarray(scene.pixels).save(folder / split / name, compress_level=1)
                writer.writerow([split, name, scene.label, scene.top, scene.left, scene.side])
    read = read_framed(scenes["train"], scenes["test"])
    with (folder / ORACLE).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "label"])
        writer.writerows(
            (scene_name(number, scene), label)
            for number, (scene, label) in enumerate(zip(scenes["test"], read, strict=True))
        )
    meta = {"format": FORMAT, "seed": seed, "settings": asdict(settings)}
    (folder / META).write_text(json.dumps(meta, indent=1) + "\n")


def scene_name(number: int, scene: Scene) -> str:
    return f"{FOLDERS[scene.label]}/{number:06d}.png"


def make_scenes(split: str, count: int, settings: MiniSettings, seed: int) -> Iterator[Scene]:
    """The images of a split; classes take turns, so that they are equally frequent."""
    pixels, labels = digit_images(split, seed)
    by_digit = [pixels[labels == digit] for digit in range(10)]
    enlarge = {side: enlargement(side) for side in range(settings.min_side, settings.max_side + 1)}
    rng = np.random.default_rng([seed, 0x1A6E, list(SPLITS).index(split)])
    for number in range(count):
        yield make_scene(number % 10, by_digit, enlarge, settings, rng)


def make_scene(label: int, by_digit, enlarge, settings: MiniSettings, rng: np.random.Generator) -> Scene:
    """One image. by_digit: images (N, 8, 8) of each digit; enlarge: side -> matrix (side, 8)."""
    size, cell_side = settings.image_size, settings.image_size // settings.grid
    others = rng.permutation([digit for digit in range(10) if digit != label])[: settings.digits - 1]
    cells = rng.permutation(settings.grid**2)[: settings.digits]
    background = _dark(settings.contrast, rng)
    canvas = np.tile(background, (size, size, 1))  # (S, S, 3)
    framed = None
    for digit, cell in zip((label, *others), cells, strict=True):
        side = int(rng.integers(settings.min_side, settings.max_side + 1))
        row, column = divmod(int(cell), settings.grid)
        room = cell_side - side - 2 * MARGIN + 1
        top = row * cell_side + MARGIN + int(rng.integers(room))
        left = column * cell_side + MARGIN + int(rng.integers(room))
        small = by_digit[digit][rng.integers(len(by_digit[digit]))]  # (8, 8)
        ink = (enlarge[side] @ small @ enlarge[side].T)[..., None]  # (side, side, 1) in [0, 1]
        colour = 1 - _dark(settings.contrast, rng)
        canvas[top : top + side, left : left + side] += ink * (colour - background)
        if framed is None:
            framed = (top, left, side)
            _frame(canvas, top, left, side, 1 - _dark(settings.contrast, rng))
    canvas += settings.noise * rng.standard_normal(canvas.shape, dtype=np.float32)
    return Scene(np.rint(canvas.clip(0, 1) * 255).astype(np.uint8), label, *framed)


def _dark(contrast: float, rng: np.random.Generator) -> np.ndarray:
    """A colour, (3,) float32, with each channel in 0 .. (1 - contrast) / 2; 1 minus it is a light one."""
    return rng.random(3, dtype=np.float32) * (1 - contrast) / 2


def _frame(canvas: np.ndarray, top: int, left: int, side: int, colour: np.ndarray) -> None:
    """A rectangle one pixel wide around the digit's box."""
    first_row, last_row, first, last = top - 1, top + side, left - 1, left + side
    canvas[[first_row, last_row], first : last + 1] = colour
    canvas[first_row : last_row + 1, [first, last]] = colour


# The ceiling: a classifier that is told where to look


def read_framed(train: list[Scene], test: list[Scene]) -> list[int]:
    """Labels of the test scenes by a support vector machine that sees the framed box alone, as 8 x 8 grey pixels."""
    from sklearn.svm import SVC  # imported here: it takes a second, and a data set that exists does not need it

    shown = train[:MAX_READ]
    reader = SVC(gamma="scale", C=10).fit(boxes(shown), [scene.label for scene in shown])
    return reader.predict(boxes(test)).tolist()


def boxes(scenes: list[Scene]) -> np.ndarray:
    """(N, 64) float32: the framed digit of each scene cut out, grey, light on dark, scaled to 8 x 8."""
    out = np.empty((len(scenes), READ, READ), np.float32)
    for box, scene in zip(out, scenes, strict=True):
        inside = scene.pixels[scene.top : scene.top + scene.side, scene.left : scene.left + scene.side]
        grey = Image.fromarray(inside.mean(2).astype(np.float32)).resize((READ, READ), Image.Resampling.BOX)
        box[:] = np.asarray(grey) / 255
        box -= np.median(scene.pixels) / 255
        box *= np.sign(box.sum()) or 1.0
        box /= max(float(np.abs(box).max()), 1e-6)
    return out.reshape(len(scenes), -1)
