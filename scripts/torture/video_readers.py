"""Video files of 12 containers, read as the captioner and the moment finder read them.

VIDEOS holds a Reader per container; each file shows 24 pictures in a second.
"""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from datamodules.formats.clip_frames import ClipFrames
from datamodules.video_captioning.mini.mp4 import OPTIONS, write_mp4
from datamodules.video_captioning.video import read_video
from scripts.torture.judging import Reader

CONCEALED = "decoders conceal damage"
CONTAINERS = {  # ending -> codec, pixels
    "mov": ("libx264", "yuv420p"),
    "mkv": ("libx264", "yuv420p"),
    "webm": ("libvpx-vp9", "yuv420p"),
    "avi": ("mpeg4", "yuv420p"),
    "flv": ("flv1", "yuv420p"),
    "3gp": ("libx264", "yuv420p"),
    "mpg": ("mpeg2video", "yuv420p"),
    "ts": ("libx264", "yuv420p"),
    "wmv": ("wmv2", "yuv420p"),
    "gif": ("gif", "rgb8"),
    "ogv": ("libvpx", "yuv420p"),
}
SIDE, FRAMES, RATE = 64, 24, 24


def film() -> np.ndarray:
    """(FRAMES, SIDE, SIDE, 3) uint8: a bar that moves over a slope that becomes lighter."""
    slope = np.linspace(0, 120, SIDE)[None, :, None] * np.ones((SIDE, 1, 3))
    pictures = np.stack([slope + 5 * number for number in range(FRAMES)]).astype(np.uint8)
    for number, picture in enumerate(pictures):
        picture[16:24, 2 * number : 2 * number + 8] = 255
    return pictures


def make(ending: str) -> Callable[[Path], Path]:
    codec, pixels = CONTAINERS[ending]

    def made(folder: Path) -> Path:
        path = folder / f"video1.{ending}"
        with av.open(str(path), "w", options={"fflags": "+bitexact"}) as file:  # the same bytes each time
            settings = OPTIONS if codec == "libx264" else {"threads": "1", "flags": "+bitexact"}
            stream = file.add_stream(codec, rate=RATE, options=settings)
            stream.height = stream.width = SIDE
            stream.pix_fmt = pixels
            for picture in film():
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                file.mux(stream.encode(frame.reformat(format=pixels)))
            file.mux(stream.encode())
        return path

    return made


def make_mp4(folder: Path) -> Path:
    write_mp4(folder / "video1.mp4", film(), rate=RATE)
    return folder / "video1.mp4"


def read(path: Path) -> list[np.ndarray]:
    """Frames for captioning and clips for moment retrieval."""
    return [read_video(path, 4), *ClipFrames(path, 0.25)]


VIDEOS = [Reader("mp4", make_mp4, read, CONCEALED)]
VIDEOS += [Reader(ending, make(ending), read, CONCEALED) for ending in CONTAINERS]
