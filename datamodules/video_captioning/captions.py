"""Captions of videos from json files of several shapes, read and checked through one map of field names.

    clips = read_captions(["MSRVTT_data.json"], fields_from("msrvtt"))    # list of Clip, in order of their ids
    clips[0]     # Clip(id="video0", media="video0", captions=("a car is shown", ...), split="train", span=None)

Three shapes, told apart by the map: captions in a list of their own that name their video (msrvtt), captions inside the
entry of their video (vatex, captions), and entries of segments with a span and a caption each (youcook2). The list of
videos may also be a mapping from id to entry. Every defect is a DataError with file, place and video.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.errors import DataError, near, some
from datamodules.formats.json_text import is_number, read_json


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


LAYOUTS = {
    "msrvtt": Fields(),
    "vatex": Fields(videos=None, video="videoID", split=None, sentences=None, caption="enCap"),
    "youcook2": Fields("database", split="subset", sentences=None, caption="sentence", segments="annotations"),
    "captions": Fields(videos=None, split=None, sentences=None, caption="captions"),
}


@dataclass(frozen=True)
class Clip:
    """What is captioned: a video, or a part of one."""

    id: str  # unique: the video's id, or `<video>_<segment>` for a part
    media: str  # id of the video that holds it
    captions: tuple[str, ...]  # at least one, white space folded
    split: str | None = None  # as the file names it
    span: tuple[float, float] | None = None  # seconds; None: the whole video


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
    allowed = {field.name: field.type for field in dataclasses.fields(Fields)}
    for key, value in given.items():
        if key not in allowed:
            raise DataError(f"data.fields: unknown key '{key}'.{near(key, allowed)} Allowed: {', '.join(allowed)}.")
        if not isinstance(value, str) and not (value is None and allowed[key] is not str):
            raise DataError(f"data.fields: {key} is {value!r}, expected the name of a key.")
    return dataclasses.replace(LAYOUTS[layout], **given)


def one_line(text: str) -> str:
    """White space folded; a line or paragraph separator inside a caption would split it for the PTB tokenizer."""
    return " ".join(text.split())


def natural(name: str) -> tuple:
    """A sort key that puts video2 before video10, for numbers of any length."""
    parts = ((part, part.lstrip("0")) for part in re.split(r"(\d+)", name))
    return tuple((len(digits), digits) if part.isdecimal() else (-1, part) for part, digits in parts)


def read_captions(paths: Iterable[str | Path], fields: Fields) -> list[Clip]:
    """The captioned clips of all files, in natural order of their ids. Entries without captions are left out.

    Raises DataError: unreadable file, missing key, a video twice, a caption that is empty, is not text or belongs to an
    unknown video, an impossible span, no caption at all.
    """
    clips: dict[str, Clip] = {}
    origin: dict[str, Path] = {}
    for path in map(Path, paths):
        for clip in _read(path, fields):
            if clip.id in clips:
                raise DataError(f"{path}: '{clip.id}' is in {origin[clip.id]} too; a clip is described once.")
            clips[clip.id], origin[clip.id] = clip, path
    return sorted(clips.values(), key=lambda clip: natural(clip.id))


def _read(path: Path, fields: Fields) -> list[Clip]:
    content = read_json(path)
    entries = _entries(path, content, fields)
    if fields.sentences is not None:
        clips = _listed(path, content, entries, fields)
    else:
        clips = [clip for name, entry in entries.items() for clip in _inside(path, name, entry, fields)]
    if not clips:
        raise DataError(f"{path}: no captions in it. Is the map of its fields (data.fields) right?")
    return clips


def _entries(path: Path, content: Any, fields: Fields) -> dict[str, Any]:
    """id -> entry of every video."""
    videos = content if fields.videos is None else _get(content, fields.videos, f"{path}")
    if isinstance(videos, dict):
        return videos
    if not isinstance(videos, list):
        raise DataError(f"{path}: the videos are {kind(videos)}, expected a list or a mapping from id to entry.")
    entries = {}
    for number, entry in enumerate(videos):
        where = f"{path}, video {number}"
        name = _name(_get(entry, fields.video, where), where)
        if name in entries:
            raise DataError(f"{where}: '{name}' is listed twice.")
        entries[name] = entry
    return entries


def _listed(path: Path, content: Any, entries: dict[str, Any], fields: Fields) -> list[Clip]:
    captions: dict[str, list[str]] = {name: [] for name in entries}
    sentences = _get(content, fields.sentences, f"{path}")
    if not isinstance(sentences, list):
        raise DataError(f"{path}: '{fields.sentences}' is {kind(sentences)}, expected a list.")
    for number, sentence in enumerate(sentences):
        where = f"{path}, {fields.sentences} {number}"
        name = _name(_get(sentence, fields.video, where), where)
        if name not in captions:
            raise DataError(f"{where}: '{name}' is not a video of this file.{near(name, captions)}")
        captions[name] += _texts(_get(sentence, fields.caption, where), f"{where} ({name})")
    return [
        Clip(name, name, tuple(captions[name]), _split(path, name, entry, fields))
        for name, entry in entries.items()
        if captions[name]
    ]


def _inside(path: Path, name: str, entry: Any, fields: Fields) -> list[Clip]:
    where = f"{path}, '{name}'"
    if not isinstance(entry, dict):
        return [Clip(name, name, tuple(_texts(entry, where)))]
    split = _split(path, name, entry, fields)
    if fields.segments is None:
        texts = _texts(_get(entry, fields.caption, where), where)
        return [Clip(name, name, tuple(texts), split)] if texts else []
    clips = []
    for number, part in enumerate(entry.get(fields.segments) or []):  # test videos come without
        place = f"{where}, {fields.segments} {number}"
        key = _name(_get(part, fields.segment, place), place)
        span = _span(_get(part, fields.span, place), place)
        texts = _texts(_get(part, fields.caption, place), place)
        clips.append(Clip(f"{name}_{key}", name, tuple(texts), split, span))
    ids = [clip.id for clip in clips]
    if twice := sorted({one for one in ids if ids.count(one) > 1}):
        raise DataError(f"{where}: segment ids are not unique: {some(twice)}.")
    return clips


def _get(entry: Any, key: str, where: str) -> Any:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: {kind(entry)}, expected an object with '{key}'.")
    if key not in entry:
        raise DataError(f"{where}: no '{key}'.{near(key, entry)} It has {some(entry) or 'nothing'} (data.fields).")
    return entry[key]


def _name(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise DataError(f"{where}: the id is {value!r}, expected a name or a whole number.")
    return str(value)


def _split(path: Path, name: str, entry: dict[str, Any], fields: Fields) -> str | None:
    value = None if fields.split is None else entry.get(fields.split)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{path}, '{name}': {fields.split} is {value!r}, expected the name of a split.")
    return value


def _texts(value: Any, where: str) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    for text in texts:
        if not isinstance(text, str):
            raise DataError(f"{where}: a caption is {kind(text)}, expected text.")
        if not text.strip():
            raise DataError(f"{where}: empty caption. Remove it from the file.")
    return [one_line(text) for text in texts]


def _span(value: Any, where: str) -> tuple[float, float]:
    numbers = isinstance(value, list) and len(value) == 2 and all(map(is_number, value))
    if not numbers or not 0 <= value[0] < value[1]:
        raise DataError(f"{where}: span {value!r}, expected [start, end] in seconds with 0 <= start < end.")
    return float(value[0]), float(value[1])


def kind(value: Any) -> str:
    """The kind of a json value, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
