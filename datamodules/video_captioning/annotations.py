"""What an annotation file of captions holds: its clips, and its defects by kind.

found.clips[0]     # Clip(id="video0", media="video0", captions=("a car is shown", ...), split="train", span=None)
found.message()    # every defect with its place, and how many there are of which kind
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from datamodules.defects import Defect, counted, listed

EMPTY = "empty caption"
NOT_TEXT = "caption that is not text"
UNKNOWN = "caption of an unknown video"
SPAN = "impossible span"
NO_CAPTION = "entry without the key of its caption"
NAMELESS = "entry without an id"
TWICE = "video listed twice"
SPLIT = "split that is not a name"
TWO_SPLITS = "video in two splits"
FORM = "malformed entry"
LEAVABLE = (EMPTY, NOT_TEXT, UNKNOWN, SPAN, NO_CAPTION)  # what data.defects=drop leaves out; others always stop


@dataclass(frozen=True)
class Clip:
    """What is captioned: a video, or a part of one."""

    id: str  # unique: the video's id, or `<video>_<segment>` for a part
    media: str  # id of the video that holds it
    captions: tuple[str, ...]  # white space folded; none of a clip that nobody described
    split: str | None = None  # as the file names it
    span: tuple[float, float] | None = None  # seconds; None: the whole video


@dataclass
class Annotations:
    """What a file holds: its clips, those without a caption among them, and its defects."""

    path: Path
    layout: str = ""  # one of LAYOUTS, or "data.fields" for a map of the user's own
    clips: list[Clip] = field(default_factory=list)
    found: list[tuple[str, Defect]] = field(default_factory=list)  # where, what
    videos: list[str] = field(default_factory=list)  # the video of each defect; "" if it has none

    def add(self, kind: str, where: str, text: str, video: str = "") -> None:
        self.found.append((where, Defect(kind, text)))
        self.videos.append(video)

    def message(self) -> str:
        """Every defect, up to LISTED of them, and how many there are of which kind."""
        text = listed(self.path, self.found)
        if all(defect.kind in LEAVABLE for _, defect in self.found):
            text += " data.defects=drop leaves these captions out; `python -m scripts.check_data msrvtt` lists all."
        return text

    def remark(self) -> str:
        """What was left out, in words; empty if nothing was."""
        kinds = counted(defect for _, defect in self.found)
        return f"{self.path}: left out: {kinds} (data.defects=drop)" if kinds else ""


def one_line(text: str) -> str:
    """White space folded; a line or paragraph separator inside a caption would split it for the PTB tokenizer."""
    return " ".join(text.split())


def natural(name: str) -> tuple:
    """A sort key that puts video2 before video10, for numbers of any length."""
    parts = ((part, part.lstrip("0")) for part in re.split(r"(\d+)", name))
    return tuple((len(digits), digits) if part.isdecimal() else (-1, part) for part, digits in parts)
