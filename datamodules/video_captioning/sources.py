"""Where the frames of a clip come from: a video file, a folder of extracted JPEG frames, or a file in no data set.

    source = VideoFiles(Path("data/msrvtt/videos"), "{video}.mp4")
    source.missing(clips)           # those whose file is not there
    source.frames(clips[0], 32)     # (32, H, W, 3) uint8

Folders are written by scripts/extract_frames.py: `frames/video0/0001.jpg` and on, complete or absent.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.errors import DataError, some
from datamodules.formats.guard import reading
from datamodules.formats.names import file_name
from datamodules.formats.video_files import Rotation, is_video, other_ending
from datamodules.pixels import decode
from datamodules.video_captioning.captions import Clip, natural
from datamodules.video_captioning.video import read_video, spread

JPEG = (".jpg", ".jpeg")


def names_in(folder: Path) -> set[str]:
    """The names in a folder; empty if there is no such folder."""
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


class VideoFiles:
    """One file per video, found by a pattern such as "{video}.mp4" or "{video}.*" (any ending of a video file)."""

    noun = "video file"

    def __init__(self, path: Path, pattern: str, rotation: Rotation = "ignore"):
        """rotation: what to do if a file's header asks for turning. DataError: a pattern without the video's id."""
        self.path, self.pattern, self.rotation = path, pattern, rotation
        try:
            named = pattern.format(video="v") != pattern
        except (LookupError, ValueError):
            named = False
        if not named:
            raise DataError(f"data.video_file is {pattern!r}, expected a file name with {{video}} in it.")
        self._endings: dict[str, list[str]] | None = None

    def file(self, clip: Clip) -> Path:
        """The clip's file; it need not be there. DataError: an id that leads to another folder, two files of one
        name for "{video}.*"."""
        video = file_name(clip.media, f"{self.path}, clip")
        if not self.pattern.endswith(".*"):
            return self.path / self.pattern.format(video=video)
        if self._endings is None:
            self._endings = {}
            for name in sorted(filter(is_video, names_in(self.path))):
                self._endings.setdefault(Path(name).stem, []).append(name)
        named = self.pattern.format(video=video)
        found = self._endings.get(named[:-2], [named])
        if len(found) > 1:
            raise DataError(
                f"{self.path}: which is {named}? {some(found)} are there; name one ending, or keep one file."
            )
        return self.path / found[0]

    def hint(self, clip: Clip) -> str:
        """The text " video0.MP4 is there; {video}.* finds it." for a file with another ending, or ""."""
        there = "" if self.pattern.endswith(".*") else other_ending(self.file(clip))
        return there and f"{there[:-1]}; {Path(self.pattern).stem}.* finds it."

    def missing(self, clips: Sequence[Clip]) -> list[Clip]:
        """The clips whose file is not there."""
        there = names_in(self.path)
        at_once = "/" not in self.pattern
        return [clip for clip in clips if not (self.file(clip).name in there if at_once else self.file(clip).is_file())]

    def stamp(self, clip: Clip) -> tuple[int, int]:
        """Size and time of change of the file."""
        status = self.file(clip).stat()
        return status.st_size, status.st_mtime_ns

    def frames(self, clip: Clip, count: int) -> np.ndarray:
        """(count, H, W, 3) uint8. Raises DataError as read_video does."""
        path = self.file(clip)
        if not path.is_file() and (hint := self.hint(clip)):
            raise DataError(f"{path}: no such video file.{hint}")
        return read_video(path, count, clip.span, self.rotation)


class OwnVideo:
    """A video file that is in no data set, shown as its header asks for."""

    def __init__(self, path: Path):
        self.path = path

    def frames(self, clip: Clip, count: int) -> np.ndarray:
        """(count, H, W, 3) uint8, of the clip's span. Raises DataError as read_video does."""
        return read_video(self.path, count, clip.span, rotation="apply")


class FrameFolders:
    """One folder of JPEG files per clip, in order of their names."""

    noun = "frame folder"

    def __init__(self, path: Path):
        self.path = path

    def file(self, clip: Clip) -> Path:
        """The clip's folder; it need not be there. DataError: an id that leads to another folder."""
        return self.path / file_name(clip.id, f"{self.path}, clip")

    def missing(self, clips: Sequence[Clip]) -> list[Clip]:
        """The clips whose folder is not there."""
        there = names_in(self.path)
        return [clip for clip in clips if self.file(clip).name not in there]

    def stamp(self, clip: Clip) -> tuple[int, int]:
        """Number of entries and time of change of the folder."""
        return len(names_in(self.file(clip))), self.file(clip).stat().st_mtime_ns

    def frames(self, clip: Clip, count: int) -> np.ndarray:
        """`count` of the folder's frames, evenly spread. DataError: none there, damaged, of different sizes."""
        folder = self.file(clip)
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder of frames.")
        names = sorted((name for name in names_in(folder) if Path(name).suffix.lower() in JPEG), key=natural)
        if not names:
            raise DataError(f"{folder}: no JPEG frames in it.")
        chosen = [names[index] for index in spread(len(names), count).tolist()]
        images = {name: np.asarray(decode(_bytes(folder / name), str(folder / name))) for name in set(chosen)}
        if len(sizes := {image.shape for image in images.values()}) > 1:
            raise DataError(f"{folder}: frames of different sizes: {sorted(size[:2] for size in sizes)}.")
        return np.stack([images[name] for name in chosen])


def _bytes(path: Path) -> bytes:
    with reading(f"{path}: cannot be read"):
        return path.read_bytes()
