"""Captions of videos from annotation files of several layouts, read and checked through one map of field names.

    clips = read_captions(["MSRVTT_data.json"], fields_from("msrvtt"))    # list of Clip, in order of their ids
    clips[0]     # Clip(id="video0", media="video0", captions=("a car is shown", ...), split="train", span=None)

The shapes, told apart by the map (fields.py): captions in a list of their own that name their video (msrvtt, coco),
captions inside the entry of their video (vatex, captions), rows of which several may be of one video (rows), and
entries of segments with a span and a caption each (youcook2). Files are json, JSON lines or tables (csv, tsv). All
defects of a file are one DataError with file, place and video of each, or what has them is left out and counted.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.formats.decoding import UTF8
from datamodules.formats.json_text import unique, value_or_lines
from datamodules.formats.separated import ENDINGS, rows_of
from datamodules.formats.text import read_text
from datamodules.video_captioning.annotations import LEAVABLE, Annotations
from datamodules.video_captioning.annotations import Clip as Clip
from datamodules.video_captioning.annotations import natural as natural
from datamodules.video_captioning.annotations import one_line as one_line
from datamodules.video_captioning.entries import Reader
from datamodules.video_captioning.fields import CAPTION, LAYOUTS, VIDEO, Fields, recognised
from datamodules.video_captioning.fields import fields_from as fields_from


def read_captions(
    paths: Iterable[str | Path], fields: Fields, *, encoding: str = UTF8, defects: str = "stop"
) -> list[Clip]:
    """The captioned clips of all files, in natural order of their ids. Entries without captions are left out.

    Raises DataError as read_files does.
    """
    return [clip for clip in joined(read_files(paths, fields, encoding=encoding, defects=defects)) if clip.captions]


def read_files(
    paths: Iterable[str | Path], fields: Fields, *, encoding: str = UTF8, defects: str = "stop"
) -> list[Annotations]:
    """What each file holds. defects: "drop" leaves out the captions that have LEAVABLE defects.

    Raises DataError with every defect of all files: unreadable file, missing key, a video twice, a caption that is
    empty, is not text or belongs to an unknown video, an impossible span, no caption at all.
    """
    files, problems = [], []
    for path in map(Path, paths):
        try:
            found = read_file(path, fields, encoding)
            stops = [defect for _, defect in found.found if defects == "stop" or defect.kind not in LEAVABLE]
            if stops:
                raise DataError(found.message())
            if not any(clip.captions for clip in found.clips):
                raise DataError(f"{path}: no captions in it. Is the map of its fields (data.fields) right?")
        except DataError as error:
            problems.append(str(error))
        else:
            files.append(found)
    if problems:
        raise DataError("\n".join(problems))
    return files


def joined(files: Iterable[Annotations]) -> list[Clip]:
    """The clips of all files, in natural order of their ids. Raises DataError: a clip in two files."""
    clips: dict[str, Clip] = {}
    origin: dict[str, Path] = {}
    for file in files:
        for clip in file.clips:
            if clip.id in clips:
                raise DataError(f"{file.path}: '{clip.id}' is in {origin[clip.id]} too; a clip is described once.")
            clips[clip.id], origin[clip.id] = clip, file.path
    return sorted(clips.values(), key=lambda clip: natural(clip.id))


def read_file(path: Path, fields: Fields, encoding: str = UTF8) -> Annotations:
    """The clips and the defects of one file. Raises DataError: unreadable, another layout than `fields` says, a layout
    that is not recognised."""
    content, places = content_of(path, encoding)
    layout = next((name for name, known in LAYOUTS.items() if known == fields), "data.fields")
    if layout in ("msrvtt", "rows"):
        layout, fields = recognised(path, content)
    return Reader(path, layout, fields, places).read(content)


def content_of(path: Path, encoding: str) -> tuple[Any, list[str] | None]:
    """The value of a json file, or the list of the rows of JSON lines or of a table; then also the place of each."""
    options = {"setting": "data.encoding"}
    if path.suffix.lower() in ENDINGS:
        video, caption = (set().union(*groups) for groups in (VIDEO, CAPTION))
        text = read_text(path, encoding, **options)
        table = rows_of(path, text, lambda names: bool(video & set(names)) and bool(caption & set(names)))
        value, lines = table.rows, table.lines
    else:
        value, lines = value_or_lines(
            path, read_text(path, encoding, f"{path}: not a readable json file", **options), pairs=unique
        )
    return value, lines and [f"line {line}" for line in lines]
