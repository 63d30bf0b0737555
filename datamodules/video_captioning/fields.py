"""How an annotation file of captions is built: a map of the names of its keys, said by the user or found in the file.

    fields_from("coco")                                     # by name, of LAYOUTS
    fields_from({"layout": "rows", "caption": "text"})      # other names on top of a layout
    recognised(Path("train.jsonl"), content)                # ("rows", Fields(...)): which layout a file has

The default, msrvtt, stands for "as the file shows": a file without MSR-VTT's keys is read by the layout that it has, if
exactly one fits. docs/datasets.md shows every layout.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import DataError, near, some
from datamodules.formats.video_files import is_video


@dataclass(frozen=True)
class Fields:
    """Names of the keys. None: there is no such key."""

    videos: str | None = "videos"  # key of the file: the videos, a list or a mapping from id to entry; None: all of it
    video: str = "video_id"  # key of an entry and a sentence: the video's id; not used if `videos` is a mapping
    split: str | None = "split"  # key of an entry: the name of its split
    sentences: str | None = "sentences"  # key of the file: captions that name their video; None: entries have captions
    caption: str = "caption"  # key of a sentence, an entry or a segment: a caption, or a list of them
    segments: str | None = None  # key of an entry: described parts, each a clip of its own
    segment: str = "id"  # key of a part: its id within the video
    span: str = "segment"  # key of a part: [start, end] in seconds
    owner: str | None = None  # key of a sentence: the id of its video; None: as `video`
    file: str | None = None  # key of an entry: the video's file, whose name the clip gets; None, or not there: its id
    repeated: bool = False  # a video may be in several entries, each with one or more of its captions
    by_split: bool = False  # the file is a mapping from the name of a split to its list of entries
    own: bool = False  # keys were named by the user: the file's layout is not looked for; set by fields_from


LAYOUTS = {
    "msrvtt": Fields(),
    "vatex": Fields(videos=None, video="videoID", split=None, sentences=None, caption="enCap"),
    "youcook2": Fields("database", split="subset", sentences=None, caption="sentence", segments="annotations"),
    "captions": Fields(videos=None, split=None, sentences=None, caption="captions"),
    "rows": Fields(videos=None, video="video", sentences=None, repeated=True),
    "coco": Fields("images", video="id", sentences="annotations", owner="image_id", file="file_name"),
}
TYPES = {str: "the name of a key", bool: "true or false"}

# What rows call their columns; a later group is looked at only if no name of an earlier one is there.
VIDEO = (
    ("video_id", "videoID", "video", "video_name", "vid", "clip_name", "clip"),
    ("image", "name"),
    ("image_id", "id"),
)
CAPTION = (("caption", "captions", "enCap", "sentence", "text", "desc", "description"),)
SPLIT = ("split", "subset")
PART = ("start", "end", "start_time", "end_time", "segment", "segments", "timestamp", "timestamps")
SPLIT_WORDS = ("train", "training", "val", "valid", "validate", "validation", "test", "testing")


def fields_from(given: str | Mapping[str, Any]) -> Fields:
    """The map of a layout by name, or of a mapping: `layout` names the one to start from, other keys replace its keys.

    Raises DataError: unknown layout or key (with the nearest one), a value that is not a string.
    """
    given = {"layout": given} if isinstance(given, str) else dict(given)
    layout = given.pop("layout", "msrvtt")
    if layout not in LAYOUTS:
        raise DataError(
            f"data.fields: unknown layout '{layout}'.{near(layout, LAYOUTS)} Allowed: {', '.join(LAYOUTS)}."
        )
    types = {field.name: field.type for field in dataclasses.fields(Fields) if field.name != "own"}
    for key, value in given.items():
        if key not in types:
            raise DataError(f"data.fields: unknown key '{key}'.{near(key, types)} Allowed: {', '.join(types)}.")
        wanted = bool if types[key] is bool else str
        if not isinstance(value, wanted) and not (value is None and types[key] not in (str, bool)):
            raise DataError(f"data.fields: {key} is {value!r}, expected {TYPES[wanted]}.")
    return dataclasses.replace(LAYOUTS[layout], **given, own=bool(given))


@functools.lru_cache(maxsize=2**16)  # every caption names its video
def bare(name: str) -> str:
    """A video's id without the ending of a video file: "video0.mp4" is "video0"."""
    return Path(name).stem if is_video(name) and "/" not in name else name


def recognised(path: Path, content: Any) -> tuple[str, Fields]:
    """The layout of a file's content, and its map. Raises DataError: none fits, or several do."""
    layout = _of_list(path, content) if isinstance(content, list) else _of_object(path, content)
    if layout is None:
        has = "empty" if not content else some(content) if isinstance(content, dict) else type(content).__name__
        raise DataError(
            f"{path}: the layout of the captions is not recognised (it has: {has}). data.fields names a layout "
            f"({', '.join(LAYOUTS)}) or the keys; docs/datasets.md#layouts-of-captions shows them."
        )
    return layout


def _of_object(path: Path, content: Any) -> tuple[str, Fields] | None:
    if not isinstance(content, dict):
        return None
    lists = [key for key, value in content.items() if _is_rows(value)]
    if "sentences" in content or ("videos" in content and not _has_captions(content["videos"])):
        return "msrvtt", LAYOUTS["msrvtt"]
    if {"images", "annotations"} <= set(content):
        return "coco", LAYOUTS["coco"]
    if "database" in content:
        return "youcook2", LAYOUTS["youcook2"]
    if lists and len(lists) == len(content) and set(map(str.lower, content)) <= set(SPLIT_WORDS):
        rows = [row for key in lists for row in content[key]]
        return "rows", dataclasses.replace(rows_of(path, rows), by_split=True, split=None)
    with_captions = [key for key in lists if _has_captions(content[key])]
    if len(with_captions) > 1:
        raise DataError(
            f"{path}: ambiguous: {some(with_captions)} are lists of captions; data.fields={{layout: rows, videos: "
            f"{with_captions[0]}}} reads one of them."
        )
    if with_captions:
        return "rows", dataclasses.replace(rows_of(path, content[with_captions[0]]), videos=with_captions[0])
    return _of_mapping(path, content)


def _of_mapping(path: Path, content: dict[str, Any]) -> tuple[str, Fields] | None:
    """From id to captions."""
    values = list(content.values())
    if content and set(map(str.lower, content)) <= set(SPLIT_WORDS):
        raise DataError(f"{path}: lists of ids by split, and no captions; such files belong into data.lists.")
    texts = [value for value in values if isinstance(value, str | list)]
    entries = [value for value in values if isinstance(value, dict)]
    if not values or len(texts) + len(entries) < len(values) or any(_is_rows(value) for value in texts):
        return None
    keys = [key for key in CAPTION[0] if any(key in entry for entry in entries)]
    if len(keys) > 1 or (entries and not keys):
        return None
    return "captions", dataclasses.replace(LAYOUTS["captions"], caption=keys[0] if keys else "captions")


def _of_list(path: Path, content: list) -> tuple[str, Fields] | None:
    if content and not any(isinstance(row, dict) for row in content):
        if all(isinstance(row, str | int) for row in content):
            raise DataError(f"{path}: a list of ids, and no captions; such files belong into data.lists.")
        return None
    return ("rows", rows_of(path, content)) if content else None


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _has_captions(value: Any) -> bool:
    return _is_rows(value) and any(key in row for row in value[:1] for key in CAPTION[0])


def rows_of(path: Path, rows: Sequence[Any]) -> Fields:
    """The map of rows, each with a video and one or more of its captions. Raises DataError: no or two such columns."""
    rows = [row for row in rows if isinstance(row, dict)]
    counts = Counter(key for row in rows for key in row)
    keys = [key for key, count in counts.items() if 2 * count > len(rows)]  # a row that lacks one is a defect
    video, caption = _one(path, rows, keys, VIDEO, "video"), _one(path, rows, keys, CAPTION, "caption")
    if parts := [key for key in PART if key in keys]:
        raise DataError(
            f"{path}: the rows have {some(parts)}, so they may describe parts of videos. data.fields={{layout: rows, "
            f"video: {video}, caption: {caption}}} puts all captions of a video together; for clips of their own write "
            "them as youcook2 (docs/datasets.md#layouts-of-captions)."
        )
    split = next((key for key in SPLIT if key in keys), None)
    return dataclasses.replace(LAYOUTS["rows"], video=video, caption=caption, split=split)


def _one(path: Path, rows: Sequence[dict], keys: Sequence[str], groups: Sequence[Sequence[str]], what: str) -> str:
    """The key of a row that holds its video or its caption."""
    for names in groups:
        found = [name for name in names if name in keys]
        other = next((name for name in found[1:] if not _same(rows, found[0], name)), None)
        if other is not None:
            shown = " and ".join(f"{name} ({rows[0].get(name)!r:.60})" for name in (found[0], other))
            raise DataError(
                f"{path}: ambiguous: the rows have two keys for the {what}, {shown}; say which: data.fields={{layout: "
                f"rows, {what}: {found[0]}}}."
            )
        if found:
            return found[0]
    names = [name for group in groups for name in group]
    raise DataError(
        f"{path}: the rows have no key for the {what}; they have {some(keys) or 'none'}. Usual names are "
        f"{some(names)}; another: data.fields={{layout: rows, {what}: NAME}}."
    )


def _same(rows: Sequence[dict], one: str, other: str) -> bool:
    return all(bare(str(row.get(one))) == bare(str(row.get(other))) for row in rows)
