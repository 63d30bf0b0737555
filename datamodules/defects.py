"""Defects of annotation files: all of a file are found, listed together and counted by kind, not the first one alone.

print(listed(path, [("line 3", Defect("empty caption", "empty caption."))]))
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

LISTED = 20  # defects that a message lists


class Defect(NamedTuple):
    """One defect: its kind, which is counted, and what is wrong in words."""

    kind: str
    text: str


def counted(defects: Iterable[Defect]) -> str:
    """Their kinds in words, the most frequent first: "3 x window of no length, 1 x ..."."""
    return ", ".join(f"{count:,} x {kind}" for kind, count in Counter(d.kind for d in defects).most_common())


def listed(path: object, found: Sequence[tuple[str, Defect]]) -> str:
    """Up to LISTED of the defects, each with its place, one per line, and how many there are of which kind."""
    lines = [f"{where}: {defect.text}" if where else defect.text for where, defect in found[:LISTED]]
    if len(found) > 1:
        more = f" ({len(found) - LISTED:,} are not listed here)" if len(found) > LISTED else ""
        lines.append(f"{path}: {len(found):,} defects{more}: {counted(defect for _, defect in found)}.")
    return "\n".join(lines)
