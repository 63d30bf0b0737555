"""Fake captions, and videos as frames, files or features (datamodules/fake.py)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from datamodules.fake import Fake
from datamodules.video_captioning.mini.mp4 import write_mp4

VIDEOS, CAPTIONS, TRAINED = 10_000, 20, 6_513  # of MSR-VTT; captions of a video
NUMBERS = {"train": range(8), "validate": range(6513, 6515), "test": range(7010, 7012)}


def write(folder: Path, data: Mapping[str, Any]) -> Fake:
    """MSR-VTT's layout: a json of videos and sentences, and a folder of frames, mp4 files or features."""
    random, per_video = np.random.default_rng(0), 0
    videos, sentences = [], []
    for split, numbers in NUMBERS.items():
        for number in numbers:
            name = f"video{number}"
            videos.append({"video_id": name, "split": split})
            sentences += [{"video_id": name, "caption": f"a man is talking about thing {i}"} for i in range(CAPTIONS)]
            per_video = video(folder, name, data, random)
    (folder / "MSRVTT_data.json").write_text(json.dumps({"videos": videos, "sentences": sentences}), encoding="utf-8")
    training = TRAINED * (CAPTIONS if data["captions"] == "all" else 1)
    words = f"{VIDEOS:,} videos of {per_video / 1e6:.2f} MB ({data['source']})"
    samples = len(NUMBERS["train"]) * (CAPTIONS if data["captions"] == "all" else 1)
    settings = {"annotations": "MSRVTT_data.json", "fields": "msrvtt"}
    settings |= {"splits": {"train": "train", "val": "validate", "test": "test"}, "video_file": "{video}.mp4"}
    return Fake(samples, training, VIDEOS * per_video, words, settings)


def video(folder: Path, name: str, data: Mapping[str, Any], random: np.random.Generator) -> int:
    """Writes one video; returns the bytes of its files."""
    side, count = data["short_side"] or data["image_size"], data["frames"]
    if data["source"] == "features":
        path = folder / data["features"]["path"] / data["features"]["file"].format(vid=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = -(-count // 2) * (-(-data["image_size"] // 32)) ** 2
        np.save(path, random.standard_normal((rows, data["features"]["dim"])).astype(np.float16))
        return path.stat().st_size
    frames = random.integers(0, 256, (count, side, side * 4 // 3 // 2 * 2, 3), dtype=np.uint8)
    if data["source"] == "video":
        path = folder / data["videos"] / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(path, frames, 8)
        return path.stat().st_size
    place = folder / data["frame_folder"] / name
    place.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames, start=1):
        Image.fromarray(frame).save(place / f"{number:04d}.jpg", quality=30)
    return sum(path.stat().st_size for path in place.iterdir())
