"""Clips of handwritten digits that move over clutter.

    clip = make_clip(settings, images, rng)       # .frames (F, S, S, 3) uint8, .scene, .sprites

Two digits of a clip are both seen all the time; if one moves after the other, it rests until then.
"""

from dataclasses import dataclass

import numpy as np

from datamodules.mini.digits import enlargement
from datamodules.video_captioning.mini.wording import COLOURS, MOTIONS, Event, Scene

TRIES = 12  # attempts to find paths on which two digits keep apart
TINT = 25  # most by which a colour differs from that of its name, of 255
CLUTTER = 8  # side of a piece of clutter, pixels
DARK = 110  # clutter is at most this light, of 255
RELATIONS = ("then", "while")


@dataclass(frozen=True)
class Sprite:
    """Where a digit is: top and left of its square of `side` pixels in each frame."""

    path: np.ndarray  # (F, 2) int
    side: int


@dataclass(frozen=True)
class MovingDigits:
    frames: np.ndarray  # (F, S, S, 3) uint8
    scene: Scene
    sprites: tuple[Sprite, ...]  # one per event


def make_clip(settings, images, rng: np.random.Generator) -> MovingDigits:
    """One clip. settings: the MiniSettings of generator.py; images: pixels (N, 8, 8) and labels of a split."""
    pixels, labels = images
    count = 2 if rng.random() < settings.pairs else 1
    relation = RELATIONS[rng.integers(2)] if count == 2 else "alone"
    digits = rng.permutation(settings.digits)[:count]
    colours = rng.permutation(list(COLOURS))[:count]
    motions = rng.permutation(list(MOTIONS))[:count]
    events = tuple(Event(int(d), str(c), str(m)) for d, c, m in zip(digits, colours, motions, strict=True))
    sides = rng.integers(settings.min_side, settings.max_side + 1, count)
    paths = apart(relation, motions, sides, settings, rng)
    least, most = settings.noise, 255 - settings.noise  # room for the noise
    still = np.rint(clutter(settings, pixels, rng)).clip(least, most).astype(np.uint8)
    frames = np.repeat(still[None], settings.frames, axis=0)  # (F, S, S, 3)
    for event, side, path in zip(events, sides.tolist(), paths, strict=True):
        image = pixels[rng.choice(np.flatnonzero(labels == event.digit))]
        draw(frames, image, event.colour, side, path, (least, most), rng)
    frames += rng.integers(2 * settings.noise + 1, size=frames.shape, dtype=np.uint8)
    frames -= np.uint8(settings.noise)  # bytes wrap around, and back
    sprites = tuple(Sprite(path, side) for path, side in zip(paths, sides.tolist(), strict=True))
    return MovingDigits(frames, Scene(relation, events), sprites)


def clutter(settings, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A still background, (S, S, 3) float32: dark pieces of handwriting of any colour on one darker colour."""
    size = settings.size
    canvas = np.tile(rng.integers(0, DARK // 2, 3).astype(np.float32), (size, size, 1))
    tops, lefts = rng.integers(0, size - CLUTTER + 1, (2, settings.clutter))
    shown = pixels[rng.integers(len(pixels), size=settings.clutter)]
    tints = rng.integers(0, DARK, (settings.clutter, 3))
    for top, left, piece, tint in zip(tops, lefts, shown, tints, strict=True):
        piece = np.roll(piece, CLUTTER // 2, rng.integers(2))[..., None]  # two halves that do not belong together
        spot = canvas[top : top + CLUTTER, left : left + CLUTTER]
        spot += piece * (tint - spot)
    return canvas


def draw(frames: np.ndarray, image: np.ndarray, colour: str, side: int, path: np.ndarray, limits, rng) -> None:
    """Lays a digit over every frame; no channel of its colour leaves `limits`."""
    larger = enlargement(side)
    ink = np.clip(1.5 * larger @ image @ larger.T, 0, 1)[..., None]  # (side, side, 1)
    paint = np.clip(np.array(COLOURS[colour]) + rng.integers(-TINT, TINT + 1, 3), *limits)
    for frame, (top, left) in zip(frames, path.tolist(), strict=True):
        spot = frame[top : top + side, left : left + side]
        spot[:] = np.rint(spot + ink * (paint - spot))


def apart(relation: str, motions, sides, settings, rng: np.random.Generator) -> list[np.ndarray]:
    """A path (F, 2) of each digit; of several tries the one on which two digits hide each other least."""
    best, least = None, np.inf
    half = settings.frames // 2
    for _ in range(TRIES):
        paths = []
        for number, (motion, side) in enumerate(zip(motions, sides.tolist(), strict=True)):
            if relation == "then":
                moving = way(motion, half if number == 0 else settings.frames - half, settings.size - side, rng)
                resting = settings.frames - len(moving)
                pad = ((0, resting), (0, 0)) if number == 0 else ((resting, 0), (0, 0))
                paths.append(np.pad(moving, pad, mode="edge"))
            else:
                paths.append(way(motion, settings.frames, settings.size - side, rng))
        if len(paths) == 1:
            return paths
        gap = np.abs(paths[0] - paths[1]).max(1)  # between the corners; squares are apart from a side on
        hidden = float(np.clip(sides.max() - gap, 0, None).mean())
        if hidden < least:
            best, least = paths, hidden
        if not hidden:
            break
    return best


def way(motion: str, frames: int, room: int, rng: np.random.Generator) -> np.ndarray:
    """(frames, 2) int: top and left, 0..room, of a digit that moves in this way."""
    time = np.linspace(0, 1, frames)
    if motion in ("left", "right", "up", "down"):
        length = rng.uniform(0.45, 0.85) * room
        start, other = rng.uniform(0, room - length), rng.uniform(0, room)
        along = start + length * (time if motion in ("right", "down") else 1 - time)
        across = np.full(frames, other)
        place = (along, across) if motion in ("up", "down") else (across, along)
    elif motion == "circle":
        radius = rng.uniform(0.2, 0.32) * room
        angle = 2 * np.pi * (rng.choice([-1, 1]) * time + rng.random())
        top, left = rng.uniform(radius, room - radius, 2)
        place = (top + radius * np.sin(angle), left + radius * np.cos(angle))
    else:
        swing = rng.uniform(0.2, 0.35) * room
        start, other = rng.uniform(0, room - swing), rng.uniform(0, room)
        along = start + swing * np.abs(np.sin(2 * np.pi * time + rng.random()))
        across = np.full(frames, other)
        place = (along, across) if motion == "bounce" else (across, along)
    return np.rint(np.clip(np.stack(place, axis=1), 0, room)).astype(int)
