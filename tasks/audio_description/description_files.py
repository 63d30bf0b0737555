"""Descriptions as files, by the ending of the name:

    write_descriptions(Path("movie.vtt"), "movie", found, about=["64 windows between 80 cues of dialogue"])

.vtt: WebVTT, as a player's track of kind "descriptions"; `about` and texts that are too long are its comments. .srt:
subtitles. .csv: movie, start, end, text_gen, full_text, words_per_second, note, whose first four columns
`python -m scripts.evaluate_descriptions` scores beside a column text_gt.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from tasks.common.cue_files import clock, srt, vtt
from tasks.common.files import check_writable, write_text

ENDINGS = (".vtt", ".srt", ".csv")
COLUMNS = ("movie", "start", "end", "text_gen", "full_text", "words_per_second", "note")


def check_ending(path: Path) -> None:
    """DataError: an ending that no descriptions are written for, or a folder."""
    if path.suffix.lower() not in ENDINGS:
        raise DataError(f"{path}: descriptions are written as {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}; name one.")
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a file.")


def check_output(path: Path, inputs: Sequence[Path]) -> None:
    """DataError before any work: another ending, one of the files that are read, a place that cannot be written."""
    check_ending(path)
    for given in inputs:
        if path.exists() and path.samefile(given):
            raise DataError(f"{path}: is one of the files that are read; write the descriptions to another one.")
    check_writable(path)


def write_descriptions(path: Path, movie: str, found: Sequence[Any], about: Sequence[str] = ()) -> None:
    """found: Descriptions, in the order of time. DataError: another ending than ENDINGS."""
    check_ending(path)
    shown = [(one.start, one.end, one.text) for one in found]
    ending = path.suffix.lower()
    if ending == ".srt":
        write_text(path, srt(shown))
    elif ending == ".csv":
        write_text(path, table(movie, found))
    else:
        long = [f"{one.note} at {clock(one.start, '.')}: {one.full_text}" for one in found if one.note]
        write_text(path, vtt(shown, [*about, *long]))


def table(movie: str, found: Sequence[Any]) -> str:
    """The text of a .csv file."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for one in found:
        speed = len(one.text.split()) / (one.end - one.start)
        times = f"{one.start:.3f}", f"{one.end:.3f}"
        lines.writerow([movie, *times, one.text, one.full_text, f"{speed:.2f}", one.note])
    return text.getvalue()
