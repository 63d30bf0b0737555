"""Rows of features against the length of their video: features of another clip length are the field's usual mistake.

    check_rows({"clip_features": 150}, 75.0, clip_length=2.0)     # DataError: 150 clips of 2 s are 300 s, ...

What is compared is the number of rows in the whole file, not what is left of it after `max_clips`. A stream is refused
from 1.3 times as many rows as its video has clips on, and from 1.3 times as few; so are two streams of which one has
1.3 times the rows of the other. One row more or fewer than the whole clips is always allowed.
"""

import math
from collections.abc import Iterable, Mapping
from statistics import median
from typing import NamedTuple

from datamodules.errors import DataError, some

RATIO = 1.3  # from here on features are of another clip length than the configured one
ROUNDING = 1e-6  # of a duration that is divided by a clip length
SHOWN = 4  # videos that a message names


class Video(NamedTuple):
    """What is known of a video before its features are read."""

    name: str  # as messages name it: "vid a"
    rows: Mapping[str, int]  # stream -> rows in its whole file
    clips: float  # that its annotation implies: duration / clip length, or the number of its labels
    length: str = ""  # in words: "the video has 30.1 s"


def gross(rows: int, clips: float, slack: int = 1) -> bool:
    """Whether `rows` are of another clip length than a video of `clips` clips (a fraction is a cut last clip)."""
    least, most = max(1, math.floor(clips + ROUNDING)), max(1, math.ceil(clips - ROUNDING))
    many = rows >= RATIO * most and rows > most + slack
    return many or (RATIO * rows <= least and rows < least - slack)


def apart(rows: Mapping[str, int], slack: int = 1) -> bool:
    """Whether two streams of one video have rows of different lengths."""
    least, most = min(rows.values()), max(rows.values())
    return most >= RATIO * least and most > least + slack


def fitting(videos: Iterable[Video], stream: str, clip_length: float) -> float:
    """The clip length in seconds that fits the rows of a stream: the median over its videos, to two digits."""
    found = [video.clips * clip_length / video.rows[stream] for video in videos if video.rows.get(stream)]
    return float(f"{median(found):.2g}") if found else clip_length


def check_rows(
    rows: Mapping[str, int],
    duration: float,
    *,
    clip_length: float,
    slack: int = 1,
    about: str = "the video",
    length: str = "",
    option: str = "the clip length",
) -> None:
    """Raises DataError if the rows of one video do not fit its duration, or each other.

    rows: stream -> rows in its whole file. duration, clip_length: seconds. slack: rows that are always allowed.
    about, length, option: what messages call the video, its duration ("the video has 30 s") and the setting.
    """
    clips = duration / clip_length
    video = Video(about, rows, clips, length or f"the video has {duration:g} s")
    check_videos([video], clip_length=clip_length, slack=slack, option=option)


def check_videos(
    videos: Iterable[Video], *, clip_length: float, slack: int = 1, option: str = "data.clip_length", title: str = ""
) -> None:
    """Raises DataError if streams of some videos do not fit what their annotations say, or each other.

    The message names the stream, how many videos it is wrong for, the first ones, and the clip length that would fit.
    """
    if problems := rate_problems(list(videos), clip_length=clip_length, slack=slack, option=option):
        raise DataError("\n".join(f"{title}{problem}" for problem in problems))


def rate_problems(videos: list[Video], *, clip_length: float, slack: int = 1, option: str) -> list[str]:
    """One sentence per stream with wrong rows and one per set of streams that differ; empty if all is well."""
    problems = []
    for stream in dict.fromkeys(stream for video in videos for stream in video.rows):
        wrong = [v for v in videos if stream in v.rows and gross(v.rows[stream], v.clips, slack)]
        if wrong:
            problems.append(_wrong_rate(videos, wrong, stream, clip_length, option))
    if not problems and (differ := [video for video in videos if len(video.rows) > 1 and apart(video.rows, slack)]):
        named = (
            f"{video.name}: {some(f'{count} rows in {name}' for name, count in video.rows.items())}"
            for video in differ[:SHOWN]
        )
        problems.append(
            f"streams of {_count(differ, videos)} have rows of different lengths: {'; '.join(named)}. Take features of "
            "one clip length, or leave one of the streams out."
        )
    return problems


def _wrong_rate(videos: list[Video], wrong: list[Video], stream: str, clip_length: float, option: str) -> str:
    parts = []
    for video in wrong[:SHOWN]:
        rows, name = video.rows[stream], f"{video.name}: " if len(videos) > 1 else ""
        seconds = f"{rows} clips of {clip_length:g} s are {rows * clip_length:g} s"
        parts.append(f"{name}{rows} rows for {video.clips:g} labels" if not video.length
                     else f"{name}{seconds}, {video.length}")  # fmt: skip
    said = f"stream {stream} does not fit {_count(wrong, videos)}: {'; '.join(parts)}. "
    if not wrong[0].length:
        return said + "Take the features that the labels belong to."
    usual = fitting(wrong, stream, clip_length)
    own = fitting(videos, stream, clip_length)
    if max(own, clip_length) < RATIO * min(own, clip_length):  # most videos fit
        return (
            said + f"Is {option} right? {usual:g} s per row would fit these videos, but the others fit {clip_length:g}."
        )
    return said + f"Is {option} right? {usual:g} s per row would fit."


def _count(some_of_them: list[Video], videos: list[Video]) -> str:
    return videos[0].name if len(videos) == 1 else f"{len(some_of_them)} of {len(videos)} videos"
