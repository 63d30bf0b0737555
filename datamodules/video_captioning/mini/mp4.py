"""Small H.264 files, the same bytes from the same frames: one thread, no times, no versions in the container.

write_mp4(Path("video0.mp4"), frames, rate=8)      # frames (F, H, W, 3) uint8, RGB; H and W even
"""

from pathlib import Path

import numpy as np

from datamodules.errors import DataError

# A slower preset is not used: if x264 looks ahead, its bytes differ from one process to the next (in 18 of 60 clips).
OPTIONS = {"preset": "ultrafast", "tune": "zerolatency", "crf": "20", "threads": "1"}


def write_mp4(path: Path, frames: np.ndarray, rate: int) -> None:
    """`rate` frames per second, 4:2:0 colour. Raises DataError if PyAV was built without an H.264 encoder."""
    import av  # imported here: reading features needs no encoder

    if "libx264" not in av.codecs_available:
        raise DataError(
            "the mini video captioning data are H.264 files, and this PyAV has no encoder for them (libx264). Install "
            "PyAV from its wheel: pip install --force-reinstall --only-binary=av av."
        )
    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=rate, options=OPTIONS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
