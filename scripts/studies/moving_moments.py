"""Video files with moments to find, and captioned pictures of other videos: handwritten digits that move over clutter.

    write_videos(Path("digits"), Sizes(), seed=0)           # videos/*.mp4, train.jsonl, val.jsonl, test.jsonl
    frames, sentences, kinds = captioned(512, digit_images("train", 0), rng)     # (512, 48, 48, 3) uint8, ...

A video is a row of shots. In each, one handwritten digit of one colour moves over still clutter; a query names both,
"a red seven is on the screen". Every video shows its digits in several colours and its colours on several digits, so
neither word alone tells the moment. No handwritten digit of one split is in another.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from datamodules.mini.digits import WORDS, digit_images
from datamodules.video_captioning.mini.moving_digits import clutter, draw, way
from datamodules.video_captioning.mini.mp4 import write_mp4
from datamodules.video_captioning.mini.wording import COLOURS, MOTIONS

SIZE, SIDES = 48, (32, 40)  # pixels: a frame's side; the smallest and the largest digit
RATE, CLIP = 4, 2.0  # frames per second; seconds per clip
LOOKS = SimpleNamespace(size=SIZE, clutter=12, noise=12)
SENTENCES = (
    "a {colour} {digit} is on the screen",
    "the {digit} in {colour} appears",
    "when somebody shows a {colour} {digit}",
    "the {colour} number {digit} moves",
    "{digit} can be seen in {colour}",
    "{colour} {digit}",
)


@dataclass(frozen=True)
class Sizes:
    """How many videos, and how long they are, in clips of 2 s."""

    train: int = 300
    val: int = 20
    test: int = 80
    queries: int = 3  # different queries per video
    clips: tuple[int, int] = (16, 24)
    shot: tuple[int, int] = (2, 4)
    kinds: int = 2  # digits in a video, and colours


def ask(digit: int, colour: str, rng: np.random.Generator) -> str:
    """A sentence for a digit and its colour."""
    return str(rng.choice(SENTENCES)).format(digit=WORDS[digit], colour=colour)


def shot(digit: int, colour: str, frames: int, images, rng: np.random.Generator) -> np.ndarray:
    """(frames, 48, 48, 3) uint8: one handwritten digit that moves. images: pixels and labels of a split."""
    pixels, labels = images
    side = int(rng.integers(SIDES[0], SIDES[1] + 1))
    low, high = LOOKS.noise, 255 - LOOKS.noise
    still = np.rint(clutter(LOOKS, pixels, rng)).clip(low, high).astype(np.uint8)
    shown = np.repeat(still[None], frames, axis=0)
    image = pixels[rng.choice(np.flatnonzero(labels == digit))]
    path = way(str(rng.choice(list(MOTIONS))), frames, SIZE - side, rng)
    draw(shown, image, colour, side, path, (low, high), rng)
    noise = rng.integers(-LOOKS.noise, LOOKS.noise + 1, shown.shape)
    return (shown.astype(np.int16) + noise).astype(np.uint8)


def captioned(count: int, images, rng: np.random.Generator) -> tuple[np.ndarray, list[str], list[int]]:
    """(count, 48, 48, 3) uint8 frames of as many other videos, a sentence of each, and a number of what it shows.

    images: as in `shot`.
    """
    frames, sentences, kinds = [], [], []
    for _ in range(count):
        digit, colour = int(rng.integers(10)), int(rng.integers(len(COLOURS)))
        name = list(COLOURS)[colour]
        frames.append(shot(digit, name, 1, images, rng)[0])
        sentences.append(ask(digit, name, rng))
        kinds.append(digit * len(COLOURS) + colour)
    return np.stack(frames), sentences, kinds


def write_videos(folder: Path, sizes: Sizes, seed: int) -> dict[str, int]:
    """Writes folder/videos and the annotation files; split -> number of queries."""
    (folder / "videos").mkdir(parents=True)
    counts, number = {}, 0
    for split in ("train", "val", "test"):
        images, rows = digit_images(split, seed), []
        for _ in range(getattr(sizes, split)):
            number += 1
            rng = np.random.default_rng([seed, 0x3071E, number])
            rows += list(one_video(folder / "videos", number, sizes, images, rng))
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        counts[split] = len(rows)
    return counts


def one_video(folder: Path, number: int, sizes: Sizes, images, rng: np.random.Generator) -> Iterator[dict]:
    """Writes a video; yields the annotations of its queries."""
    clips = int(rng.integers(sizes.clips[0], sizes.clips[1] + 1))
    digits, colours = rng.permutation(10)[: sizes.kinds], rng.permutation(list(COLOURS))[: sizes.kinds]
    pairs, shown, parts, first = sizes.kinds**2, [], [], 0
    pair = int(rng.integers(pairs))
    while first < clips:
        length = min(int(rng.integers(sizes.shot[0], sizes.shot[1] + 1)), clips - first)
        digit, colour = int(digits[pair // sizes.kinds]), str(colours[pair % sizes.kinds])
        parts.append(shot(digit, colour, round(length * CLIP * RATE), images, rng))
        shown.append((digit, colour, first, first + length))
        first += length
        pair = (pair + int(rng.integers(1, pairs))) % pairs  # never the same twice running
    name = f"digits{number:05d}"
    write_mp4(folder / f"{name}.mp4", np.concatenate(parts), RATE)
    asked = sorted({(digit, colour) for digit, colour, *_ in shown})
    for place, at in enumerate(rng.permutation(len(asked))[: sizes.queries]):
        digit, colour = asked[at]
        windows = [[CLIP * a, CLIP * b] for d, c, a, b in shown if (d, c) == (digit, colour)]
        yield {
            "qid": number * sizes.queries + place,
            "query": ask(digit, colour, rng),
            "vid": name,
            "duration": CLIP * clips,
            "relevant_windows": windows,
        }
