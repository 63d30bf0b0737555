"""What the scripts that extract frames and features share: which clips, with which settings, what failed.

clips = clips_of(Path("videos"), [], "msrvtt")          # every video file of the folder, one clip each
with only_run(Path("frames")):                          # a second run on one folder is refused
    keep_settings(Path("frames"), {"frames": 32})       # and one with other settings
    keep_failures(Path("frames"), {"video7": "..."})    # failures.txt
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from datamodules.errors import DataError, some
from datamodules.formats.json_text import read_json
from datamodules.formats.names import misnamed
from datamodules.formats.video_files import ENDINGS, Rotation, is_video
from datamodules.video_captioning.captions import Clip, fields_from, natural, read_captions

SETTINGS, FAILURES, LOCK = "extraction.json", "failures.txt", ".extraction.lock"
EARLIER = {"rotation": "ignore", "model": "swin", "pool": "none"}  # what extractions did before they wrote it down


def clips_of(folder: Path, annotations: Sequence[Path], layout: str) -> list[Clip]:
    """The clips of annotation files or, if there are none, every video file (or folder of frames) in `folder`.

    Raises DataError: no such folder, nothing in it, two files of one name, wrong annotations.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder.")
    if annotations:
        return read_captions(annotations, fields_from(layout))
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    names = [entry.stem for entry in entries if is_video(entry) and entry.is_file()]
    names = names or [entry.name for entry in entries if entry.is_dir()]
    if not names:
        raise DataError(f"{folder}: no video files ({', '.join(ENDINGS)}) and no folders of frames in it.")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1}, key=natural)
        raise DataError(f"{folder}: more than one video file is called {some(twice)}; a clip needs a name of its own.")
    return [Clip(name, name, ()) for name in sorted(names, key=natural)]


def say_others(folder: Path, console: Console) -> None:
    """Counts and names what is in `folder` and is not extracted: files of other endings, and folders beside videos."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    used = {entry.name for entry in entries if is_video(entry) and entry.is_file()}
    used = used or {entry.name for entry in entries if entry.is_dir()} | {SETTINGS, FAILURES}
    others = sorted(entry.name for entry in entries if entry.name not in used)
    if others:
        say = f"{folder}: left out {len(others)} that are not video files by their ending: {some(others)}"
        console.print(say, soft_wrap=True, highlight=False, markup=False)


def add_rotation(parser: argparse.ArgumentParser) -> None:
    told = "turn frames as a file's header asks for; default: apply, and ignore with --annotations"
    parser.add_argument("--rotation", choices=get_args(Rotation), help=told)


def rotation_of(chosen: argparse.Namespace) -> Rotation:
    """The choice, or the default: what is in published data sets is read as their own loaders read it."""
    return chosen.rotation or ("ignore" if chosen.annotations else "apply")


def split_ids(clips: Sequence[Clip]) -> tuple[list[Clip], dict[str, str]]:
    """The clips that can be extracted, and what is wrong with the ids of the others: nothing is written for them."""
    refused = {}
    for clip in clips:
        for name, of in ((clip.media, "its video's id"), (clip.id, "its id")):
            if what := misnamed(name):
                refused[clip.id] = f"{of} {what}; an id names a file and must not lead to another folder"
            elif name.startswith(".") or name in (SETTINGS, FAILURES):
                refused[clip.id] = f"{of} is the name of a file of the extraction's own"
    return [clip for clip in clips if clip.id not in refused], refused


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Creates `folder`. Raises DataError while another run writes into it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout:
        raise DataError(f"{folder}: another extraction is writing here; wait for it, or name another folder.") from None


def keep_settings(folder: Path, settings: Mapping[str, object]) -> None:
    """Writes the settings into `folder`. Raises DataError if it holds clips of other settings."""
    path = folder / SETTINGS
    if path.is_file():
        before = read_json(path, f"{path}: not the settings of an extraction; remove it to begin anew")
        if not isinstance(before, dict):
            raise DataError(f"{path}: not the settings of an extraction; remove it to begin anew.")
        before = EARLIER | before
        changed = [
            f"{key} {before.get(key)} (now {value})" for key, value in settings.items() if before.get(key) != value
        ]
        if changed:
            raise DataError(
                f"{folder} was begun with other settings: {some(changed)}. Name another folder, or empty it."
            )
    path.write_text(json.dumps(dict(settings), indent=1) + "\n", encoding="utf-8")


def keep_failures(folder: Path, failed: Mapping[str, str]) -> None:
    """Writes failures.txt, one line per clip, or removes it if nothing failed."""
    path = folder / FAILURES
    if failed:
        lines = [
            f"{shown(name)}\t{' '.join(why.split())}\n"
            for name, why in sorted(failed.items(), key=lambda x: natural(x[0]))
        ]
        path.write_text("".join(lines), encoding="utf-8")
    else:
        path.unlink(missing_ok=True)


def shown(name: str) -> str:
    """An id as messages show it: as it is, or quoted if it cannot be a name."""
    return (f"{name[:80]!r}..." if len(name) > 80 else repr(name)) if misnamed(name) else name


def finish(
    folder: Path, console: Console, *, done: int, there: int, failed: Mapping[str, str], noun: str = "clips"
) -> None:
    """Prints what was done; exits with status 1 if a clip failed. noun: what is extracted, in the plural."""
    keep_failures(folder, failed)
    say = f"{folder}: {done} {noun} extracted, {there} were there, {len(failed)} failed"
    console.print(say, soft_wrap=True, highlight=False)
    if failed:
        first = [f"{shown(name)}: {failed[name]}" for name in sorted(failed, key=natural)[:8]]
        sys.exit("\n".join([f"{len(failed)} {noun} failed, listed in {folder / FAILURES}:", *first]))


def progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)
