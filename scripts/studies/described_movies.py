"""Movie files to describe, with picture, sound, dialogue and subtitles: the mini set's scenes as real mp4 files.

    write_movies(Path("movies"), Sizes(), seed=1)       # movies/*.mp4, subtitles/*.srt, descriptions/*.csv; the splits
    frames, sentences, kinds = captioned(512, digit_images("train", 1), rng)

A movie alternates between dialogue, in which somebody speaks (a made-up voice, and a cue in the subtitles), and scenes,
in which nobody does. A scene is that of datamodules/audio_description/mini: shots of one noisy handwritten digit each,
and two keypad tones in noise; its description says which key sounds as which digit shows. While somebody speaks the
picture shows digits as well. No handwritten digit of one split is in another.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from datamodules.audio_description.mini.generator import describe
from datamodules.audio_description.mini.sounds import RATE, ROW, keypad_tones
from datamodules.mini.digits import WORDS, digit_images, enlargement
from datamodules.video_captioning.mini.mp4 import OPTIONS
from tasks.common.cue_files import srt

FPS = RATE // ROW  # rows per second, on which everything begins and ends
SIZE, PICTURES = 48, 10  # pixels along a side; pictures per second
SHOT, TONE = (3, 5), 2  # rows of a shot, of a tone
NOISE = 0.25  # standard deviation of pixels, which are in [0, 1]
HISS, LOUDNESS = 1.0, 0.08  # deviation of the noise in which a tone is two sines of 1; scale of the whole sound track
DIGITS, KEYS = 4, 2  # different ones in a movie
APART, INSET = 0.2, 0.06  # seconds between dialogue and scene; by which a scene's times lie inside its rows
CODER = {"aac_coder": "fast"}  # four times as fast as the default
LINES = ("Where were you?", "I did not see it.", "Come with me.", "<i>Nobody knows.</i>", "What is that?", "Listen!")


@dataclass(frozen=True)
class Sizes:
    """How many movies, and how long they and their parts are, in rows of 0.2 s."""

    train: int = 48
    val: int = 1
    test: int = 6
    rows: int = 600  # two minutes
    scene: tuple[int, int] = (20, 25)
    dialogue: tuple[int, int] = (6, 10)


def pictured(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 8, 8) pixels in [0, 1] -> noisy pictures (N, 48, 48, 3) uint8."""
    noisy = images + NOISE * rng.standard_normal(images.shape, dtype=np.float32)
    grown = enlargement(SIZE)
    grey = (255 * (0.15 + 0.7 * np.clip(grown @ noisy @ grown.T, -0.2, 1.2))).clip(0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def captioned(count: int, images, rng: np.random.Generator) -> tuple[np.ndarray, list[str], list[int]]:
    """(count, 48, 48, 3) uint8 pictures of other movies, a sentence of each, and its digit. images: of a split."""
    pixels, labels = images
    chosen = rng.integers(len(labels), size=count)
    return pictured(pixels[chosen], rng), [f"{WORDS[n]} shows" for n in labels[chosen]], labels[chosen].tolist()


def voice(samples: int, rng: np.random.Generator) -> np.ndarray:
    """A made-up voice: harmonics of a wandering pitch, four syllables in a second; (samples,) float32."""
    time = np.arange(samples) / RATE
    pitch = rng.uniform(100, 220) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    harmonics = sum(np.sin(n * phase + rng.uniform(0, 6)) / n for n in range(1, 12))
    syllables = np.maximum(0, np.sin(2 * np.pi * 4 * time + rng.uniform(0, 6)))
    return (1.5 * harmonics * syllables).astype(np.float32)


def shots(rows: int, digits: np.ndarray, images, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The picture of every row, (rows, 8, 8), and its digit (rows,); never the same digit in two shots running."""
    pixels, labels = images
    shown, parts, place = [], [], int(rng.integers(len(digits)))
    while len(shown) < rows:
        place = (place + int(rng.integers(1, len(digits)))) % len(digits)
        length = int(rng.integers(SHOT[0], SHOT[1] + 1))
        image = pixels[rng.choice(np.flatnonzero(labels == digits[place]))]
        shown += [digits[place]] * length
        parts += [image] * length
    return np.stack(parts[:rows]), np.array(shown[:rows])


def layout(sizes: Sizes, rng: np.random.Generator) -> list[tuple[int, int]]:
    """(first row, row behind the last) of every scene; dialogue is between them, and at both ends."""
    scenes, first = [], int(rng.integers(sizes.dialogue[0], sizes.dialogue[1] + 1))
    while (stop := first + int(rng.integers(sizes.scene[0], sizes.scene[1] + 1))) + sizes.dialogue[0] <= sizes.rows:
        scenes.append((first, stop))
        first = stop + int(rng.integers(sizes.dialogue[0], sizes.dialogue[1] + 1))
    return scenes


def write_movie(folder: Path, name: str, sizes: Sizes, images, rng: np.random.Generator) -> None:
    """movies/<name>.mp4, subtitles/<name>.srt and descriptions/<name>.csv. images: pixels and labels of a split."""
    scenes = layout(sizes, rng)
    digits, keys = rng.permutation(10)[:DIGITS], rng.permutation(10)[:KEYS]
    pixels, shown = shots(sizes.rows, digits, images, rng)
    sound = HISS * rng.standard_normal(sizes.rows * ROW, dtype=np.float32)
    described = ["start,end,text"]
    for first, stop in scenes:
        half = first + (stop - first) // 2
        onsets = [int(rng.integers(first, half - TONE + 1)), int(rng.integers(half, stop - TONE + 1))]
        heard = rng.choice(keys, 2)
        for onset, wave in zip(onsets, keypad_tones(heard, TONE * ROW, rng), strict=True):
            sound[onset * ROW : (onset + TONE) * ROW] += wave
        text = describe("tones", [(int(key), int(shown[onset])) for key, onset in zip(heard, onsets, strict=True)])
        described.append(f'{first / FPS + INSET:.3f},{stop / FPS - INSET:.3f},"{text}"')
    cues, begins, ends = [], [0, *(stop for _, stop in scenes)], [*(first for first, _ in scenes), sizes.rows]
    for begin, end in zip(begins, ends, strict=True):
        start, stop = (begin / FPS + APART - INSET if begin else 0.0), min(end / FPS - APART + INSET, sizes.rows / FPS)
        cues.append((start, stop, str(rng.choice(LINES))))
        at = slice(round(start * RATE), round(stop * RATE))
        sound[at] += voice(at.stop - at.start, rng)
    frames = pictured(pixels, rng).repeat(PICTURES // FPS, axis=0)
    write_file(folder / "movies" / f"{name}.mp4", frames, LOUDNESS * sound)
    (folder / "subtitles" / f"{name}.srt").write_text(srt(cues), encoding="utf-8")
    (folder / "descriptions" / f"{name}.csv").write_text("\n".join(described) + "\n", encoding="utf-8")


def write_file(path: Path, frames: np.ndarray, sound: np.ndarray | None, rate: int = RATE) -> None:
    """An mp4 file of H.264 pictures (F, H, W, 3) uint8, PICTURES per second, and perhaps AAC sound (n,) float32."""
    import av  # imported here: reading features needs no encoder

    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        picture = container.add_stream("libx264", rate=PICTURES, options=OPTIONS)
        picture.height, picture.width = frames.shape[1:3]
        picture.pix_fmt = "yuv420p"
        track = None if sound is None else container.add_stream("aac", rate=rate, layout="mono", options=CODER)
        for frame in frames:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(picture.encode())
        if track is None:
            return
        for first in range(0, len(sound), 1024):
            part = av.AudioFrame.from_ndarray(sound[None, first : first + 1024], format="fltp", layout="mono")
            part.sample_rate, part.pts, part.time_base = rate, first, Fraction(1, rate)
            container.mux(track.encode(part))
        container.mux(track.encode())


def write_movies(folder: Path, sizes: Sizes, seed: int) -> dict[str, list[str]]:
    """Writes everything; split -> names of its movies."""
    for name in ("movies", "subtitles", "descriptions"):
        (folder / name).mkdir(parents=True)
    names: dict[str, list[str]] = {}
    number = 0
    for split in ("train", "val", "test"):
        images, names[split] = digit_images(split, seed), []
        for _ in range(getattr(sizes, split)):
            number += 1
            names[split].append(f"{split}{number:03d}")
            write_movie(folder, names[split][-1], sizes, images, np.random.default_rng([seed, 0x30F1E, number]))
    return names
