"""Finds the clips that cannot be read, before a run depends on them.

unreadable(clips, input, keep=Path("data/msrvtt"))     # {"video12": "... cannot be decoded ..."}
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from datamodules.errors import DataError
from datamodules.formats.kept import read_kept, reasons, write_kept
from datamodules.video_captioning.captions import Clip
from datamodules.video_captioning.clips import Input

log = logging.getLogger(__name__)

CHECKS = 2  # counted up when more kinds of damage are found: lists of before are made again


def check_clips(clips: Sequence[Clip], source: Input, threads: int | None = None) -> dict[str, str]:
    """id -> what is wrong, for every clip that cannot be read completely, in order.

    threads: None is one per processor. Reads every clip once (MSR-VTT as video files: less than an hour of one core).
    """

    def attempt(clip: Clip) -> str | None:
        try:
            source.read(clip, None)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        told = pool.map(attempt, clips)
        return {clip.id: why for clip, why in zip(clips, told, strict=True) if why is not None}


def unreadable(clips: Sequence[Clip], source: Input, stamps: Sequence[tuple], keep: Path) -> dict[str, str]:
    """The result of check_clips, kept in a file in the folder `keep` for the next run.

    stamps: size and time of change of each clip, so that a file that was replaced is checked again.
    """
    digest = hashlib.sha256(f"{source.key} {CHECKS}".encode())
    for clip, stamp in zip(clips, stamps, strict=True):
        digest.update(repr((clip.id, clip.span, stamp)).encode())
    kept = keep / f".unreadable-{digest.hexdigest()[:12]}.json"
    if (found := read_kept(kept, reasons)) is not None:
        return found
    log.info("reading all %d clips once, to find those that cannot be (data.corrupt=skip)", len(clips))
    found = check_clips(clips, source)
    write_kept(kept, found)
    return found
