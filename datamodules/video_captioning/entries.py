"""Reads the content of one annotation file of captions through a map of field names (fields.py).

Reader(path, "msrvtt", LAYOUTS["msrvtt"], None).read(content)    # Annotations
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.errors import DataError, near, some
from datamodules.formats.json_text import is_number
from datamodules.video_captioning.annotations import (
    EMPTY,
    FORM,
    NAMELESS,
    NO_CAPTION,
    NOT_TEXT,
    SPAN,
    SPLIT,
    TWICE,
    TWO_SPLITS,
    UNKNOWN,
    Annotations,
    Clip,
    one_line,
)
from datamodules.video_captioning.fields import Fields, bare


class Reader:
    """Reads the content of one file through a map of field names; defects of entries are kept, not raised."""

    def __init__(self, path: Path, layout: str, fields: Fields, places: list[str] | None):
        self.path, self.fields, self.places = path, fields, places
        self.file = Annotations(path, layout)

    def read(self, content: Any) -> Annotations:
        if self.fields.repeated:
            self.file.clips = self._rows(content)
        elif self.fields.sentences is not None:
            self.file.clips = self._sentences(content, self._entries(content))
        else:
            self.file.clips = [
                clip for name, entry in self._entries(content).items() for clip in self._inside(name, entry)
            ]
        return self.file

    # -- videos and their entries -------------------------------------------------------------------------------------

    def _listed(self, content: Any) -> Iterator[tuple[str, Any, str | None]]:
        """Place, entry and split of every element of the list (or lists) of videos."""
        fields = self.fields
        if fields.by_split:
            if not isinstance(content, dict):
                raise DataError(f"{self.path}: {kind(content)}, expected an object with a list for each split.")
            for split, entries in content.items():
                if not isinstance(entries, list):
                    raise DataError(f"{self.path}, {split}: {kind(entries)}, expected a list.")
                yield from ((f"{self.path}, {split} {number}", entry, split) for number, entry in enumerate(entries))
            return
        videos = self._videos(content)
        noun = "row" if fields.repeated else "video"
        for number, entry in enumerate(videos):
            place = f"{noun} {number}" if self.places is None else self.places[number]
            yield f"{self.path}, {place}", entry, None

    def _videos(self, content: Any) -> Any:
        videos = content if self.fields.videos is None else self._needed(content, self.fields.videos, f"{self.path}")
        if not isinstance(videos, list) and not (isinstance(videos, dict) and not self.fields.repeated):
            form = "a list" if self.fields.repeated else "a list or a mapping from id to entry"
            raise DataError(f"{self.path}: the videos are {kind(videos)}, expected {form}.")
        return videos

    def _entries(self, content: Any) -> dict[str, Any]:
        """Key (what sentences call it) -> entry of every video."""
        if not self.fields.by_split and isinstance(videos := self._videos(content), dict):
            named: dict[str, Any] = {}
            for name, entry in videos.items():
                if bare(name) in named:
                    self.file.add(TWICE, f"{self.path}, '{name}'", f"'{bare(name)}' is listed twice.", bare(name))
                named[bare(name)] = entry
            return named
        entries: dict[str, Any] = {}
        for where, entry, split in self._listed(content):
            name = self._name(entry, self.fields.video, where)
            if name is None:
                continue
            if name in entries:
                self.file.add(TWICE, where, f"'{name}' is listed twice.", name)
            if split is not None and isinstance(entry, dict):
                entry = {**entry, "split": split}
            entries[name] = entry
        return entries

    def _sentences(self, content: Any, entries: dict[str, Any]) -> list[Clip]:
        fields = self.fields
        captions: dict[str, list[str]] = {name: [] for name in entries}
        sentences = self._needed(content, fields.sentences, f"{self.path}")
        if not isinstance(sentences, list):
            raise DataError(f"{self.path}: '{fields.sentences}' is {kind(sentences)}, expected a list.")
        for number, sentence in enumerate(sentences):
            where = f"{self.path}, {fields.sentences} {number}"
            name = self._name(sentence, fields.owner or fields.video, where)
            if name is None:
                continue
            if name not in captions:
                self.file.add(UNKNOWN, where, f"'{name}' is not a video of this file.{near(name, captions)}", name)
                continue
            captions[name] += self._captions(sentence, where, name)
        clips = [self._clip(key, entry, captions[key]) for key, entry in entries.items()]
        for name, count in Counter(clip.id for clip in clips).items():
            if count > 1:
                self.file.add(TWICE, f"{self.path}", f"'{name}' is the {fields.file} of {count} videos.", name)
        return clips

    def _clip(self, key: str, entry: Any, captions: list[str]) -> Clip:
        if not isinstance(entry, dict):
            self.file.add(FORM, f"{self.path}, '{key}'", f"{kind(entry)}, expected an object.", key)
            return Clip(key, key, tuple(captions))
        file = None if self.fields.file is None else entry.get(self.fields.file)
        name = bare(file) if isinstance(file, str) and file else key
        return Clip(name, name, tuple(captions), self._split(name, entry))

    def _rows(self, content: Any) -> list[Clip]:
        """Clips of rows; several rows may be of one video."""
        captions: dict[str, list[str]] = {}
        splits: dict[str, str | None] = {}
        spelled: dict[str, str] = {}
        for where, row, split in self._listed(content):
            name = self._name(row, self.fields.video, where)
            if name is None:
                continue
            own = str(row[self.fields.video])
            if own != name and spelled.setdefault(name, own) != own:
                text = f"{own!r} differs from {spelled[name]!r} by its ending alone; a video needs an id of its own."
                self.file.add(TWICE, where, text, name)
            split = split or self._split(name, row)
            if splits.setdefault(name, split) != split:
                text = f"'{name}' is in the split {split} here and in {splits[name]} in an earlier row."
                self.file.add(TWO_SPLITS, where, text, name)
            captions.setdefault(name, []).extend(self._captions(row, where, name))
        return [Clip(name, name, tuple(texts), splits[name]) for name, texts in captions.items()]

    def _inside(self, name: str, entry: Any) -> Iterator[Clip]:
        where = f"{self.path}, '{name}'"
        if not isinstance(entry, dict):
            yield Clip(name, name, tuple(self._texts(entry, where, name)))
            return
        split = self._split(name, entry)
        if self.fields.segments is None:
            yield Clip(name, name, tuple(self._captions(entry, where, name)), split)
            return
        parts = entry.get(self.fields.segments) or []  # test videos come without
        if not isinstance(parts, list):
            self.file.add(FORM, where, f"{self.fields.segments} is {kind(parts)}, expected a list.", name)
            return
        if not parts:
            yield Clip(name, name, (), split)
        keys: set[str] = set()
        for number, part in enumerate(parts):
            place = f"{where}, {self.fields.segments} {number}"
            key = self._name(part, self.fields.segment, place)
            span = None if key is None else self._span(part, place, name)
            if span is None:
                continue
            if key in keys:
                self.file.add(TWICE, where, f"segment ids are not unique: {name}_{key}.", name)
            keys.add(key)
            yield Clip(f"{name}_{key}", name, tuple(self._captions(part, place, name)), split, span)

    # -- single values ------------------------------------------------------------------------------------------------

    def _needed(self, entry: Any, key: str, where: str) -> Any:
        """The value of a key. Raises DataError if it is not there."""
        if not isinstance(entry, dict):
            raise DataError(f"{where}: {kind(entry)}, expected an object with '{key}'.")
        if key not in entry:
            raise DataError(f"{where}: no '{key}'.{near(key, entry)} It has {some(entry) or 'nothing'} (data.fields).")
        return entry[key]

    def _name(self, entry: Any, key: str, where: str) -> str | None:
        """The id that an entry has, without the ending of a video file; None if it has none, which is a defect."""
        try:
            value = self._needed(entry, key, where)
        except DataError as error:
            self.file.add(NAMELESS if isinstance(entry, dict) else FORM, "", str(error))
            return None
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            self.file.add(NAMELESS, where, f"the id is {value!r}, expected a name or a whole number.")
            return None
        return bare(str(value))

    def _split(self, name: str, entry: dict[str, Any]) -> str | None:
        key = self.fields.split or ("split" if self.fields.by_split else None)
        value = None if key is None else entry.get(key)
        if value is not None and not isinstance(value, str):
            self.file.add(SPLIT, f"{self.path}, '{name}'", f"{key} is {value!r}, expected the name of a split.", name)
            return None
        return value or None

    def _captions(self, entry: dict[str, Any], where: str, video: str) -> list[str]:
        try:
            return self._texts(self._needed(entry, self.fields.caption, where), where, video)
        except DataError as error:
            self.file.add(NO_CAPTION, "", str(error), video)
            return []

    def _texts(self, value: Any, where: str, video: str) -> list[str]:
        texts = []
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text.strip():
                texts.append(one_line(text))
                continue
            place = where if f"'{video}'" in where else f"{where} ({video})"
            if isinstance(text, str):
                self.file.add(EMPTY, place, "empty caption. Remove it from the file.", video)
            else:
                self.file.add(NOT_TEXT, place, f"a caption is {kind(text)}, expected text.", video)
        return texts

    def _span(self, part: dict[str, Any], where: str, video: str) -> tuple[float, float] | None:
        value = part.get(self.fields.span)
        numbers = isinstance(value, list) and len(value) == 2 and all(map(is_number, value))
        if not numbers or not 0 <= value[0] < value[1]:
            text = f"span {value!r}, expected [start, end] in seconds with 0 <= start < end."
            self.file.add(SPAN, where, text, video)
            return None
        return float(value[0]), float(value[1])


def kind(value: Any) -> str:
    """The kind of a json value, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
