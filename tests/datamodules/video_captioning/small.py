"""A small captioned video set, functions that write videos, and the datamodule on it."""

import json
from pathlib import Path

import av
import numpy as np

from datamodules.video_captioning import Captions

COUNTS = {"train": 7, "validate": 3, "test": 5}
MINI = {
    "train_videos": 12,
    "val_videos": 2,
    "test_videos": 5,
    "captions": 5,
    "frames": 12,
    "size": 64,
    "digits": 10,
    "min_side": 16,
    "max_side": 20,
    "pairs": 0.6,
    "clutter": 12,
    "noise": 8,
}
KEYWORDS = {
    "annotations": "MSRVTT_data.json",
    "source": "video",
    "features": {"dim": 5},
    "frames": 4,
    "image_size": 16,
    "batch_size": 3,
    "eval_batch_size": 2,
}


def footage(seed: int, frames: int = 9, height: int = 24, width: int = 32) -> np.ndarray:
    """(frames, height, width, 3) uint8; frame i is brighter than frame i - 1, so that their order can be read."""
    coarse = np.random.default_rng(seed).integers(0, 60, (height // 8, width // 8, 3))
    picture = np.kron(coarse, np.ones((8, 8, 1)))
    return np.stack([picture + 190 * i / max(frames - 1, 1) for i in range(frames)]).astype(np.uint8)


def write_video(
    path: Path, frames: np.ndarray, rate: int = 8, codec: str = "libx264", faststart=False, **options
) -> None:
    muxing = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", options=muxing) as container:
        stream = container.add_stream(codec, rate=rate, options={"threads": "1", **options})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_sound(path: Path) -> None:
    """A file with a sound track alone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def no_frames(path: Path) -> None:
    """A file that declares a picture track and has no frame in it; an AVI, whatever it is called."""
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
        container.start_encoding()


def content(counts=COUNTS, captions: int = 3, split: bool = True) -> dict:
    """MSRVTT_data.json's, video numbers from 0."""
    names = [name for name, count in counts.items() for _ in range(count)]
    videos = [{"video_id": f"video{i}", "id": i, **({"split": name} if split else {})} for i, name in enumerate(names)]
    sentences = [
        {"video_id": f"video{i}", "caption": f"caption {k} of clip {i}", "sen_id": captions * i + k}
        for k in range(captions)
        for i in range(len(names))
    ]
    return {"info": {}, "videos": videos, "sentences": sentences}


def write_set(root: Path, counts=COUNTS) -> Path:
    """root/MSRVTT_data.json, root/videos/, root/features/: 15 videos of several sizes."""
    (root / "videos").mkdir(parents=True)
    (root / "features").mkdir()
    for i in range(sum(counts.values())):
        write_video(root / "videos" / f"video{i}.mp4", footage(i, frames=5 + i % 4, width=32 + 8 * (i % 2)))
        grid = np.random.default_rng(i).standard_normal((7, 5)).astype(np.float16)
        np.save(root / "features" / f"video{i}.npy", grid)
    write_json(root / "MSRVTT_data.json", content(counts))
    return root


def write_json(path: Path, what) -> Path:
    path.write_text(json.dumps(what), encoding="utf-8")
    return path


def open_set(root: Path, **changes) -> Captions:
    """The datamodule on `root`, ready; keywords replace the usual ones."""
    data = Captions(**{**KEYWORDS, "root": str(root), **changes})
    data.prepare_data()
    data.setup()
    return data


def batches(data: Captions, split: str, epoch: int = 0) -> list[dict]:
    loader = getattr(data, f"{split}_dataloader")()
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)
    return list(loader)
