"""Features of clips: frames are read, handed to a backbone, and kept as (rows, width) arrays.

for name, values in extracted(source, clips, 32, backbone): ...     # backbone: (F, H, W, 3) uint8 -> (G, D)
write_features(folder, name, values)                                # folder/name.npy, float16, complete or absent
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from datamodules.formats.names import file_name
from datamodules.packed import as_stored
from datamodules.video_captioning.captions import Clip
from datamodules.video_captioning.sources import FrameFolders, VideoFiles

Backbone = Callable[[np.ndarray], np.ndarray]


def extracted(
    source: VideoFiles | FrameFolders, clips: Iterable[Clip], count: int, backbone: Backbone
) -> Iterator[tuple[str, np.ndarray]]:
    """(id, (G, D) float32) of each clip, from `count` frames. Raises DataError: a clip that cannot be decoded."""
    for clip in clips:
        yield clip.id, backbone(source.frames(clip, count))


def write_features(folder: Path, name: str, values: np.ndarray) -> None:
    """folder/name.npy as float16, by one rename. Raises DataError: not finite, or too large for float16."""
    stored = as_stored(name, values, np.dtype(np.float16))
    file_name(name, f"{folder}, clip")
    draft = folder / f".{name}.{os.getpid()}.partial"
    try:
        with draft.open("wb") as file:
            np.save(file, stored)
        draft.replace(folder / f"{name}.npy")
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
