"""Which windows of a movie are described, from what the user gives, and what should be said about it.

found = planned(118.0, "movie.srt", None, GapRules(), ignore_sounds=False)
found.windows, found.cues, found.notes
"""

from pathlib import Path
from typing import NamedTuple

from datamodules.audio_description.cues import Cue, read_cues
from datamodules.audio_description.gaps import GapRules, Windows, inside, read_windows, windows_between, windows_in
from datamodules.errors import DataError


class Planned(NamedTuple):
    """windows: seconds, by start; cues: those of the subtitles; notes: sentences for the user."""

    windows: Windows
    cues: list[Cue]
    notes: list[str]


def planned(
    duration: float, subtitles: str | Path | None, gaps: str | Path | None, rules: GapRules, ignore_sounds: bool
) -> Planned:
    """DataError: files that cannot be read, no window."""
    cues, notes = read_cues(subtitles) if subtitles is not None else ([], [])
    if late := sum(cue.start >= duration for cue in cues):
        notes.append(
            f"{subtitles}: {late} of {len(cues)} cues begin after the movie's end at {duration:.1f} s (left out); are "
            "these the subtitles of this movie?"
        )
    cues = [cue for cue in cues if cue.start < duration]
    if gaps is not None:
        windows, told = read_windows(gaps)
        windows, more = inside(windows, duration, str(gaps))
        notes += [*told, *more, f"{len(windows)} windows of {gaps} are described as they are"]
    elif subtitles is not None:
        dialogue = [cue for cue in cues if not (ignore_sounds and cue.is_sound)]
        windows = windows_between(dialogue, duration, rules)
        notes.append(f"{len(windows)} windows between {len(dialogue)} cues of dialogue ({subtitles}) are described")
    else:
        windows = windows_in(0.0, duration, rules)
        notes.append(
            f"no subtitles and no gaps are given: the whole movie is cut into {len(windows)} windows of "
            f"{rules.longest:g} s at most, and descriptions may be spoken over dialogue"
        )
    if not windows:
        raise DataError(
            f"{gaps or subtitles or 'the movie'}: nowhere a window of at least {rules.shortest:g} s, "
            f"{rules.margin:g} s away from dialogue, in a movie of {duration:.1f} s; allow shorter ones (--shortest, "
            "--margin), or name windows (--gaps)."
        )
    return Planned(windows, cues, notes)
