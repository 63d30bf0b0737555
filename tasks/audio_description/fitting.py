"""Whether a description can be spoken in its window, and what happens if not.

fitted("A man in a red coat runs, then falls.", 2.0, 3.5, rules, "shorten")    # ("A man in a red...", "shortened")
"""

import re

from datamodules.audio_description.gaps import GapRules

TOO_LONG = ("keep", "shorten", "leave_out")


def fitted(text: str, start: float, end: float, rules: GapRules, too_long: str) -> tuple[str, str]:
    """What is to be spoken from `start` to `end` seconds, and a note: "" if the text fits, "too long" or "shortened".

    too_long: keep: as it is, with the note; shorten: the words that fit; leave_out: nothing.
    """
    text = " ".join(text.split())
    if rules.fits(text, start, end):
        return text, ""
    if too_long == "shorten":
        return shortened(text, rules.words_in(start, end)), "shortened"
    return (text, "too long") if too_long == "keep" else ("", "too long")


def shortened(text: str, words: int) -> str:
    """The first `words` words, or up to the end of a clause in their second half; "..." says that more was there."""
    kept = text.split()[:words]
    for count in range(len(kept), len(kept) // 2, -1):
        if re.search(r"[,;:.!?]$", kept[count - 1]):
            kept = kept[:count]
            break
    return " ".join(kept).rstrip(",;:.!? ") + "..." if kept else ""
