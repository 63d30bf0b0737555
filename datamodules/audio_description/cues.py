"""Subtitle files, SubRip (.srt) and WebVTT (.vtt), as they are found: cues with a beginning, an end and a text.

    read = read_cues("movie.srt")
    read.cues[0]                 # Cue(start=12.5, end=14.0, text="Where were you?")
    read.notes                   # ["movie.srt: 3 cues are not in the order of time (sorted)"]

Cues are sorted by their beginning; they may overlap. Tags, positions and WebVTT's notes and styles are removed. UTF-8,
UTF-16 (with a byte order mark) and, if neither fits, Windows' code page 1252 are read. What is changed or left out is
counted in `notes`; a time that cannot be read stops, since it would hide where somebody speaks.
"""

import html
import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from datamodules.errors import DataError, some
from datamodules.formats.guard import reading

ENDINGS = (".srt", ".vtt")
ARROW = "-->"
TIME = re.compile(r"(?:(\d{1,6}):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?(?!\S)")
MARKUP = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")  # <i>, <v Anna>, <00:01.000>, and {\an8} of other formats
SOUNDS = re.compile(r"\[[^\[\]]*\]|\([^()]*\)|♪[^♪]*♪|#[^#]*#")  # [door slams], (music), ♪ la la ♪
LABEL = re.compile(r"[A-ZÀ-Þ][A-ZÀ-Þ0-9.' -]*:")  # ANNA: [sighs]


class Cue(NamedTuple):
    """start, end: seconds, start < end; text: one line."""

    start: float
    end: float
    text: str

    @property
    def is_sound(self) -> bool:
        """Whether it describes a sound or is sung, [door slams], and nothing in it is spoken."""
        rest, count = SOUNDS.subn(" ", self.text)
        rest = LABEL.sub(" ", rest)
        return count > 0 and not any(letter.isalnum() for letter in rest)


class Cues(NamedTuple):
    cues: list[Cue]
    notes: list[str]


def read_cues(path: str | Path) -> Cues:
    """DataError: unreadable, another format, no cue in it, times that cannot be read (all are named)."""
    path = Path(path)
    text, notes = decoded(path)
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    found, wrong = [], []
    for number, line in enumerate(lines):
        if ARROW not in line:
            continue
        times = [TIME.match(part.strip()) for part in line.split(ARROW, 1)]
        if None in times:
            wrong.append(f"line {number + 1} ({line[:40]!r})")
        else:
            found.append(Cue(*map(seconds, times), spoken(lines, number + 1)))
    if wrong:
        raise DataError(
            f"{path}: {len(wrong)} times cannot be read: {some(wrong, 3)}. Expected hours:minutes:seconds,milliseconds "
            f"on both sides of {ARROW}; correct them, since somebody may speak there."
        )
    if not found:
        raise DataError(
            f"{path}: no cue in it, which has a line such as 00:00:01,000 {ARROW} 00:00:02,500. SubRip (.srt) and "
            "WebVTT (.vtt) are read; FFmpeg converts others: ffmpeg -i OTHER movie.srt"
        )
    usable = [cue for cue in found if cue.start < cue.end]
    if len(usable) < len(found):
        notes.append(f"{path}: {len(found) - len(usable)} cues end before they begin, or at once (left out)")
    late = sum(cue.start < before.start for before, cue in pairwise(usable))
    if late:
        notes.append(f"{path}: {late} cues are not in the order of time (sorted)")
    if not usable:
        raise DataError(f"{path}: none of its {len(found)} cues ends after it begins.")
    return Cues(sorted(usable, key=lambda cue: (cue.start, cue.end)), notes)


def decoded(path: Path) -> tuple[str, list[str]]:
    """The text of a file, without a byte order mark, and a note if it had to be guessed. DataError: unreadable."""
    with reading(f"{path}: not a readable subtitle file"):
        content = path.read_bytes()
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        with reading(f"{path}: begins as UTF-16, and is not"):
            return content.decode("utf-16"), []
    if b"\0" in content:
        raise DataError(f"{path}: not a text file; subtitles in UTF-16 need a byte order mark at their beginning.")
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
        return text, [f"{path}: not UTF-8; read as Windows code page 1252. Save it as UTF-8 if letters are wrong"]


def seconds(match: re.Match) -> float:
    """A time as seconds: "00:01:02,5" is 62.5."""
    hours, minutes, whole, fraction = match.groups()
    return 3600 * int(hours or 0) + 60 * int(minutes) + int(whole) + float(f"0.{fraction or 0}")


def spoken(lines: list[str], first: int) -> str:
    """The text of a cue: its lines up to a blank one, or up to the next cue if none is between."""
    stop = first
    while stop < len(lines) and lines[stop] and ARROW not in lines[stop]:
        stop += 1
    if stop < len(lines) and ARROW in lines[stop] and stop > first and lines[stop - 1].isdecimal():
        stop -= 1  # the next cue's number
    text = html.unescape(MARKUP.sub("", " ".join(lines[first:stop])))
    return " ".join(text.split())
