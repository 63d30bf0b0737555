"""The mini video captioning data: clips of handwritten digits that move, as H.264 files and json like MSR-VTT's.

A clip shows one or two digits that move over still clutter, one alone, one after the other, or both at the same time.
Five captions in different words say which digits, in which colours, how they move and in which order: "a red seven
slides to the left and then a blue two moves in a circle". One frame does not tell the motion, and the order needs the
whole clip. No handwritten digit of one split is in another.

    folder = write_mini(root, settings, seed=0)     # MSRVTT_data.json, videos/video0.mp4, ..., features.packed.npy, ...

Beside them are `scenes.json` (what happens where) and `oracle.json` (the answers of a classifier that is told where to
look).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.errors import DataError
from datamodules.formats.json_text import read_json
from datamodules.mini.digits import SPLITS, digit_images
from datamodules.mini.store import build_once
from datamodules.packed import pack, packed_path
from datamodules.video_captioning.captions import Clip
from datamodules.video_captioning.feature_files import extracted
from datamodules.video_captioning.mini.moving_digits import MovingDigits, make_clip
from datamodules.video_captioning.mini.mp4 import write_mp4
from datamodules.video_captioning.mini.patches import GRID, SLOTS, Patches, patches_scale
from datamodules.video_captioning.mini.wording import Event, Scene, describe, plainly
from datamodules.video_captioning.sources import VideoFiles

FORMAT = 3  # raise whenever the same settings would give other files
ANNOTATIONS, VIDEOS, FEATURES = "MSRVTT_data.json", "videos", "features"
SCENES, ORACLE, META = "scenes.json", "oracle.json", "meta.json"
NAMES = {"train": "train", "val": "validate", "test": "test"}
RATE = 8  # frames per second
SCALED = 200  # training clips, at most, that the features are scaled by
MOST_READ = 2000  # digits shown to the oracle's classifier


@dataclass(frozen=True)
class MiniSettings:
    """Sizes and difficulty. Lengths are in pixels, brightness in 0..255."""

    train_videos: int
    val_videos: int  # 0: no validation, which needs data.splits.val=null as well
    test_videos: int
    captions: int  # captions per clip
    frames: int  # frames per clip, 8 per second
    size: int  # frames are square
    digits: int  # classes of digits, 2..10: zero, one, ...
    min_side: int  # smallest digit
    max_side: int  # largest digit
    pairs: float  # share of the clips that have two digits
    clutter: int  # pieces of clutter in a clip
    noise: int  # most that a pixel's brightness is off

    def check(self) -> None:
        """DataError if no clip can be made."""
        if min(self.train_videos, self.test_videos, self.captions) < 1 or self.val_videos < 0:
            raise DataError(
                f"mini: train_videos={self.train_videos}, test_videos={self.test_videos} and captions={self.captions} "
                f"must be at least 1, and val_videos={self.val_videos} at least 0."
            )
        if self.frames < 8 or self.frames % SLOTS:
            raise DataError(f"mini: frames={self.frames} must be at least 8 and a multiple of {SLOTS}.")
        if self.size < 32 or self.size % (4 * GRID):
            raise DataError(f"mini: size={self.size} must be at least 32 and a multiple of {4 * GRID}.")
        if not 2 <= self.digits <= 10:
            raise DataError(f"mini: digits={self.digits} must be in 2..10, as a clip can show two different ones.")
        if not 4 <= self.min_side <= self.max_side <= self.size // 2:
            raise DataError(
                f"mini: needs 4 <= min_side={self.min_side} <= max_side={self.max_side} <= {self.size // 2}, half of "
                f"size={self.size}: a digit needs room to move."
            )
        if not 0 <= self.pairs <= 1 or self.clutter < 0 or not 0 <= self.noise <= 127:
            raise DataError(
                f"mini: pairs={self.pairs} is a share (0..1), clutter={self.clutter} a number of pieces, and "
                f"noise={self.noise} in 0..127."
            )


def write_mini(root: Path, settings: MiniSettings, *, seed: int) -> Path:
    """The folder with the files, generated unless it is there. The same arguments give the same bytes (with one version
    of PyAV).

    Raises DataError: settings without room for a clip, before anything is written; no H.264 encoder.
    """
    settings.check()
    key = {"format": FORMAT, "seed": seed, "settings": asdict(settings)}
    return build_once(root, "msrvtt-mini", key, lambda folder: _write(folder, settings, seed))


def _write(folder: Path, settings: MiniSettings, seed: int) -> None:
    (folder / VIDEOS).mkdir()
    videos, sentences, scenes = [], [], {}
    boxes: dict[str, list] = {"train": [], "test": []}  # (name, event, its mean picture) for the oracle
    clips: dict[str, list[Clip]] = {split: [] for split in SPLITS}
    number = 0
    for split in SPLITS:
        images = digit_images(split, seed)
        for _ in range(getattr(settings, f"{split}_videos")):
            name, rng = f"video{number}", np.random.default_rng([seed, 0x51DE0, number])
            made = make_clip(settings, images, rng)
            write_mp4(folder / VIDEOS / f"{name}.mp4", made.frames, RATE)
            captions = tuple(describe(made.scene, rng) for _ in range(settings.captions))
            clips[split].append(Clip(name, name, captions, NAMES[split]))
            videos.append(entry(number, name, NAMES[split], settings))
            first = len(sentences)
            sentences += [{"caption": c, "video_id": name, "sen_id": first + i} for i, c in enumerate(captions)]
            scenes[name] = record(made)
            if split == "test" or (split == "train" and len(boxes["train"]) < MOST_READ):
                boxes[split] += seen_boxes(name, made)
            number += 1
    content = {"info": {"description": "generated"}, "videos": videos, "sentences": sentences}
    write_json(folder / ANNOTATIONS, content)
    write_json(folder / SCENES, scenes)
    write_json(folder / ORACLE, read_scenes(boxes["train"], boxes["test"], scenes))
    scale = write_features(folder, clips, settings)
    write_json(folder / META, {"format": FORMAT, "seed": seed, "settings": asdict(settings), "scale": scale})


def features_of(folder: Path, frames: np.ndarray) -> np.ndarray:
    """(G, D) float16 features of another clip's frames (F, S, S, 3) uint8, as those of the set in `folder` are made."""
    meta = read_json(folder / META)
    return Patches(len(frames), frames.shape[1], np.array(meta["scale"]))(frames).astype(np.float16)


def write_json(path: Path, content) -> None:
    path.write_text(json.dumps(content) + "\n", encoding="utf-8")


def entry(number: int, name: str, split: str, settings: MiniSettings) -> dict:
    """A video as MSR-VTT lists it."""
    times = {"start time": 0.0, "end time": settings.frames / RATE}
    return {"video_id": name, "id": number, "category": 0, "url": "", **times, "split": split}


def record(made: MovingDigits) -> dict:
    """What happens where, as json."""
    events = [
        {**asdict(event), "side": sprite.side, "path": sprite.path.tolist()}
        for event, sprite in zip(made.scene.events, made.sprites, strict=True)
    ]
    return {"relation": made.scene.relation, "events": events}


def write_features(folder: Path, clips: dict[str, list[Clip]], settings: MiniSettings) -> list[float]:
    """Writes features.packed.npy, float16, from the files as they are decoded; returns what they were divided by."""
    source = VideoFiles(folder / VIDEOS, "{video}.mp4")
    some_train = clips["train"][:: 1 + len(clips["train"]) // SCALED]
    scale = patches_scale([source.frames(clip, settings.frames) for clip in some_train])
    patches = Patches(settings.frames, settings.size, scale)
    every = [clip for split in SPLITS for clip in clips[split]]
    rows = len(every) * SLOTS * GRID * GRID
    pack(
        extracted(source, every, settings.frames, patches),
        rows,
        len(scale),
        packed_path(folder / FEATURES),
        np.dtype(np.float16),
    )
    return scale.tolist()


# The ceiling: a classifier that is told where to look


def seen_boxes(name: str, made: MovingDigits) -> list[tuple[str, int, int, np.ndarray]]:
    """(clip, number of the event, digit, (64,) mean picture of the digit's square) of each event."""
    found = []
    for index, (event, sprite) in enumerate(zip(made.scene.events, made.sprites, strict=True)):
        squares = [
            frame[top : top + sprite.side, left : left + sprite.side].mean(2)
            for frame, (top, left) in zip(made.frames, sprite.path.tolist(), strict=True)
        ]
        grey = Image.fromarray(np.mean(squares, axis=0).astype(np.float32))
        box = np.asarray(grey.resize((8, 8), Image.Resampling.BOX)).ravel()
        found.append((name, index, event.digit, (box - box.min()) / max(np.ptp(box), 1.0)))
    return found


def read_scenes(train: list, test: list, scenes: dict) -> dict[str, str]:
    """Captions of the test clips: digits by a support vector machine, all else as it is, in the commonest wording."""
    from sklearn.dummy import DummyClassifier
    from sklearn.svm import SVC  # imported here: it takes a second, and a data set that exists does not need it

    digits = [digit for _, _, digit, _ in train]
    reader = SVC(gamma="scale", C=10) if len(set(digits)) > 1 else DummyClassifier()
    reader.fit(np.stack([box for *_, box in train]), digits)
    read = reader.predict(np.stack([box for *_, box in test])).tolist()
    events: dict[str, list[Event]] = {}
    for (name, index, *_), digit in zip(test, read, strict=True):
        told = scenes[name]["events"][index]
        events.setdefault(name, []).append(Event(digit, told["colour"], told["motion"]))
    return {name: plainly(Scene(scenes[name]["relation"], tuple(found))) for name, found in events.items()}
