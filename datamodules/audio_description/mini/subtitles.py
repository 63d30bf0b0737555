"""Subtitles for the mini audio description data: before each scene somebody names the sound that begins it.

    path = write_mini_subtitles(root, folder, ["train.csv", "eval.csv"], "subtitles.csv")

Lines are made from the generated set's own annotation files, in a folder of their own: the set stays as it is.
"""

import csv
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from datamodules.audio_description.annotations import read_annotations
from datamodules.errors import DataError
from datamodules.esc10 import SOUNDS
from datamodules.mini.digits import WORDS
from datamodules.mini.store import build_once

EARLY, LONG = 1.5, 1.0  # seconds: a line begins this long before its scene, and takes this long
NAMED = (*WORDS, *SOUNDS.values())
FIRST = re.compile(rf".*?\b(?:{'|'.join(NAMED)})\b")  # a description's words up to the name of a sound: "Key five"


def write_mini_subtitles(root: Path, folder: Path, annotations: Sequence[str], name: str) -> Path:
    """The csv of lines for the generated set in `folder`, written unless it is there. DataError: `name` is a path."""
    if not name or Path(name).name != name or name == "..":
        raise DataError(
            f"mini: {name!r} is not a plain file name; subtitles are written under data.root, by name alone."
        )
    key = {"set": folder.name, "annotations": list(annotations), "name": name, "line": [EARLY, LONG, FIRST.pattern]}
    return build_once(root, "madv2-mini-subtitles", key, lambda new: _write(folder, annotations, new / name)) / name


def _write(folder: Path, annotations: Sequence[str], path: Path) -> None:
    rows = []
    for name in annotations:
        table = read_annotations(folder / name, logging.DEBUG)
        for movie, start, text in zip(table["movie"], table["start"], table["text"], strict=True):
            if start <= EARLY - LONG:
                continue  # there is no time for a line
            line = (
                FIRST.match(text)[0] + "."
            )  # words of the descriptions alone: a tokenizer trained on them knows these
            rows.append([movie, f"{max(start - EARLY, 0):.3f}", f"{start - EARLY + LONG:.3f}", line])
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [["movie", "start", "end", "text"], *sorted(rows, key=lambda r: (r[0], float(r[1])))]
        )
