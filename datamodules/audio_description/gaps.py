"""Where a description may be spoken: windows between dialogue, from subtitles, from a list, or from the length alone.

    rules = GapRules(shortest=1.0, longest=5.0, margin=0.2)
    windows_between(cues, duration=118.0, rules=rules)      # [(0.0, 4.1), (4.1, 8.2), (12.7, 15.9), ...]

A gap is where nobody speaks, `margin` seconds away from the dialogue on both sides. One that is longer than `longest`
is cut into windows of equal length; a window that is shorter than `shortest` is left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.audio_description.annotations import seconds
from datamodules.audio_description.cues import ENDINGS, Cue, read_cues
from datamodules.audio_description.tables import ANNOTATIONS, read_table
from datamodules.errors import DataError, some

Windows = list[tuple[float, float]]  # (start, end) in seconds, by start


@dataclass(frozen=True)
class GapRules:
    """Seconds. words_per_second: what can be spoken; 160 words in a minute are usual in audio description."""

    shortest: float = 1.0
    longest: float = 5.0
    margin: float = 0.2
    words_per_second: float = 160 / 60

    def __post_init__(self):
        """DataError: numbers that leave no window."""
        if not 0 < self.shortest <= self.longest < math.inf:
            raise DataError(
                f"gaps: the shortest is {self.shortest:g} s and the longest window {self.longest:g} s; expected "
                "0 < shortest <= longest."
            )
        if not 0 <= self.margin < math.inf or not 0 < self.words_per_second < math.inf:
            raise DataError(
                f"gaps: margin {self.margin:g} s, {self.words_per_second:g} words per second; expected a margin of at "
                "least 0 and a rate above 0."
            )

    def fits(self, text: str, start: float, end: float) -> bool:
        """Whether a text can be spoken from `start` to `end` seconds."""
        return len(text.split()) <= self.words_in(start, end)

    def words_in(self, start: float, end: float) -> int:
        """How many words can."""
        return math.floor((end - start) * self.words_per_second + 1e-9)


def windows_between(cues: Sequence[Cue], duration: float, rules: GapRules) -> Windows:
    """The windows between cues, which are sorted by their beginning and may overlap, in a movie of `duration` s."""
    gaps, free = [], 0.0
    for cue in cues:
        gaps.append((free, min(cue.start - rules.margin, duration)))
        free = max(free, cue.end + rules.margin)
    gaps.append((free, duration))
    return [window for gap in gaps for window in windows_in(*gap, rules)]


def windows_in(start: float, end: float, rules: GapRules) -> Windows:
    """A gap, cut into windows from its beginning on; none if it is too short."""
    length = end - start
    count = min(math.ceil(length / rules.longest - 1e-9), math.floor(length / rules.shortest + 1e-9))
    if count < 1:
        return []
    step = min(length / count, rules.longest)
    return [(start + n * step, min(start + (n + 1) * step, end)) for n in range(count)]


def read_windows(path: str | Path) -> tuple[Windows, list[str]]:
    """Windows of a csv with columns start and end, or the cues of an .srt or .vtt file, as they are; and notes.

    DataError: unreadable, no such columns, a time that is not a number, no usable row.
    """
    path = Path(path)
    if path.suffix.lower() in ENDINGS:
        cues, notes = read_cues(path)
        return [(cue.start, cue.end) for cue in cues], notes
    table = read_table(path, {name: ANNOTATIONS[name] for name in ("start", "end")}, optional={})
    times = table[["start", "end"]].apply(seconds)
    if (wrong := times.isna().any(axis=1)).any():
        raise DataError(f"{path}: start or end is not a number of seconds in row {some(table['row'][wrong])}.")
    usable = times[(times["start"] >= 0) & (times["end"] > times["start"])]
    if usable.empty:
        raise DataError(f"{path}: no row whose end is after its start.")
    lost = len(times) - len(usable)
    notes = [f"{path}: {lost} rows begin below 0 or do not end after they begin (left out)"] if lost else []
    return sorted(usable.itertuples(index=False, name=None)), notes


def inside(windows: Windows, duration: float, what: str) -> tuple[Windows, list[str]]:
    """The windows that begin in the movie, cut at its end, and a note about the others. what: where they come from."""
    kept = [(start, min(end, duration)) for start, end in windows if start < duration]
    lost = len(windows) - len(kept)
    notes = [f"{what}: {lost} of {len(windows)} windows begin after the movie's end at {duration:.1f} s (left out)"]
    return kept, notes if lost else []
