"""Text with times, as players show it beside a video: SubRip (.srt) and WebVTT (.vtt).

srt([(1.0, 2.5, "A dog runs.")])      # "1\\n00:00:01,000 --> 00:00:02,500\\nA dog runs.\\n"
vtt([(1.0, 2.5, "A dog runs.")])      # "WEBVTT\\n\\n00:00:01.000 --> 00:00:02.500\\nA dog runs.\\n"
"""

import html
from collections.abc import Iterable

Shown = tuple[float, float, str]  # seconds, seconds, text


def srt(cues: Iterable[Shown]) -> str:
    """The text of a .srt file, in the order that is given."""
    shown = [f"{n}\n{clock(start)} --> {clock(end)}\n{text}\n" for n, (start, end, text) in enumerate(cues, 1)]
    return "\n".join(shown)


def vtt(cues: Iterable[Shown], about: Iterable[str] = ()) -> str:
    """The text of a .vtt file, in the order that is given. about: comments, which players do not show."""
    notes = [f"NOTE {' '.join(text.split()).replace('-->', '->')}\n" for text in about]
    shown = [
        f"{clock(start, '.')} --> {clock(end, '.')}\n{html.escape(text, quote=False)}\n" for start, end, text in cues
    ]
    return "\n".join(["WEBVTT\n", *notes, *shown])


def clock(seconds: float, mark: str = ",") -> str:
    """Hours, minutes, seconds and milliseconds, as subtitles have them.

    >>> clock(3661.5)
    '01:01:01,500'
    """
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{mark}{thousandths:03}"
