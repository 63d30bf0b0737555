"""Extracts evenly spread frames of videos as JPEG files: decoded once, and 13 times faster to read than the video.

    python -m scripts.extract_frames data/msrvtt/videos data/msrvtt/frames --workers 8
    python -m scripts.extract_frames data/youcook2/videos data/youcook2/frames --pattern '{video}.*' \\
        --annotations data/youcook2/youcookii_annotations_trainval.json --layout youcook2

Writes FRAMES/<clip>/0001.jpg, 0002.jpg, ...: 32 frames (--frames), the short side 224 pixels (--short-side, 0 = as they
are). data.source=frames reads them. A clip's folder is complete or absent, so a run that was stopped can be started
again: clips that are there are skipped. A video that cannot be decoded is listed in FRAMES/failures.txt, and the exit
status is 1. Without --annotations every video file in the folder is a clip, and other files are counted and named.

--rotation apply turns and mirrors frames as a file's header asks for, as phones write it: the default for a folder of
videos. With --annotations the default is ignore, as the loaders of the published data sets do.
"""

import contextlib
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from PIL import Image
from rich.console import Console

from datamodules.errors import DataError
from datamodules.video_captioning.captions import LAYOUTS, Clip
from datamodules.video_captioning.sources import VideoFiles
from scripts.arguments import parser_for
from scripts.extracting import (
    add_rotation,
    clips_of,
    finish,
    keep_failures,
    keep_settings,
    only_run,
    progress,
    rotation_of,
    say_others,
    split_ids,
)

PARTIAL = ".partial"
DIED = "the process that read it died: FFmpeg crashed, or there was not enough memory"


def extract(source: VideoFiles, clip: Clip, out: Path, count: int, short_side: int, quality: int) -> str | None:
    """Writes one clip's folder, by one rename, if it is not there. Returns what is wrong with the video, or None."""
    if (out / clip.id).is_dir():
        return None
    draft = out / f".{clip.id}{PARTIAL}"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        frames = source.frames(clip, count)
    except DataError as error:
        return str(error)
    draft.mkdir()
    for number, frame in enumerate(frames, start=1):
        image = Image.fromarray(frame)
        if short_side and min(image.size) != short_side:
            scale = short_side / min(image.size)
            size = [max(short_side, round(side * scale)) for side in image.size]
            image = image.resize(size, Image.Resampling.BILINEAR)
        image.save(draft / f"{number:04d}.jpg", quality=quality)
    draft.rename(out / clip.id)
    return None


def extract_all(source: VideoFiles, clips: list[Clip], out: Path, options: tuple, workers: int, console) -> dict:
    """id -> what is wrong, of the clips that failed. If a process dies, the clips that it may have read are read again,
    each in a process of its own, so that one file costs one file."""
    told: dict[str, str | None] = {}

    def read(asking: list[Clip], processes: int, bar, task) -> bool:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            asked = {}
            try:
                with contextlib.suppress(BrokenProcessPool):  # while clips are still handed to it
                    for clip in asking:
                        asked[pool.submit(extract, source, clip, out, *options)] = clip
                for done in as_completed(asked):
                    with contextlib.suppress(BrokenProcessPool):  # not told, so it is read again
                        told[asked[done].id] = done.result()
                        bar.advance(task)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                keep_failures(out, failures(told))
                raise
        return all(clip.id in told for clip in asking)

    with progress(console) as bar:
        task = bar.add_task("clips", total=len(clips))
        while left := [clip for clip in clips if clip.id not in told]:
            if read(left, workers, bar, task):
                break
            left = [clip for clip in left if clip.id not in told]
            for clip in left[: 2 * workers + 1]:  # as many as the pool takes at a time
                if not read([clip], 1, bar, task):
                    told[clip.id] = DIED
                    bar.advance(task)
    return failures(told)


def failures(told: dict[str, str | None]) -> dict[str, str]:
    return {name: why for name, why in told.items() if why is not None}


def main(arguments: list[str] | None = None) -> None:
    parser = parser_for("extract_frames", __doc__)
    parser.add_argument("videos", type=Path, help="folder of video files")
    parser.add_argument("out", type=Path, help="folder of frame folders; made if need be")
    parser.add_argument("--frames", type=int, default=32, help="frames per clip (32)")
    parser.add_argument("--short-side", type=int, default=224, help="pixels (224); 0: as they are")
    parser.add_argument("--quality", type=int, default=95, help="quality of the JPEG files, 1..95 (95)")
    parser.add_argument("--pattern", default="{video}.*", help="name of a video's file ({video}.*: any ending)")
    parser.add_argument("--annotations", type=Path, nargs="+", default=[], help="json files: the clips in them")
    parser.add_argument("--layout", choices=LAYOUTS, default="msrvtt", help="layout of the annotations (msrvtt)")
    add_rotation(parser)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (one per processor)")
    chosen = parser.parse_args(arguments)
    for name, least in (("frames", 1), ("short_side", 0), ("quality", 1), ("workers", 1)):
        if getattr(chosen, name) < least:
            parser.error(f"--{name.replace('_', '-')} {getattr(chosen, name)}: the least is {least}")
    console = Console()
    try:
        clips = clips_of(chosen.videos, chosen.annotations, chosen.layout)
        rotation = rotation_of(chosen)
        if not chosen.annotations:
            say_others(chosen.videos, console)
        with only_run(chosen.out):
            options = (chosen.frames, chosen.short_side, chosen.quality)
            settings = dict(zip(("frames", "short_side", "quality"), options, strict=True))
            keep_settings(chosen.out, {**settings, "rotation": rotation})
            named, refused = split_ids(clips)
            todo = [clip for clip in named if not (chosen.out / clip.id).is_dir()]
            source = VideoFiles(chosen.videos, chosen.pattern, rotation)
            failed = extract_all(source, todo, chosen.out, options, min(chosen.workers, len(todo) or 1), console)
            done, there = len(todo) - len(failed), len(named) - len(todo)
            finish(chosen.out, console, done=done, there=there, failed=refused | failed)
    except KeyboardInterrupt:
        sys.exit("stopped; run the same command again to go on.")
    except (DataError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
