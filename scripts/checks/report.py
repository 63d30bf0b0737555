"""What a check of a data set found: kinds of finding, where, and how often.

report = Report()
report.add("start is negative", "train.csv", ["row 3 (0017, -3.5 s)"])
report.text(limit=5); report.found
"""

import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from datamodules.errors import some


class NothingToCheck(Exception):
    """The folder of the data, or every file in it, is missing."""


@dataclass
class Section:
    """One kind of finding: the names of what has it, by file."""

    names: dict[str, list[str]] = field(default_factory=dict)
    note: bool = False

    @property
    def count(self) -> int:
        return sum(map(len, self.names.values()))


class Report:
    """Findings and notes by kind. A note is worth knowing but is not a fault: it does not count."""

    def __init__(self) -> None:
        self.sections: dict[tuple[str, bool], Section] = {}
        self.looked_at: list[str] = []  # what was checked, in words

    def add(self, kind: str, where: object, names: Iterable[str], *, note: bool = False) -> None:
        """Adds a finding of this kind at `where`, with the names of what has it; without names it adds nothing."""
        if names := list(names):
            section = self.sections.setdefault((kind, note), Section(note=note))
            section.names.setdefault(str(where), []).extend(names)

    @property
    def found(self) -> int:
        """How many findings there are; notes are not counted."""
        return sum(section.count for section in self.sections.values() if not section.note)

    def kinds(self, *, note: bool = False) -> list[str]:
        """The kinds of the findings, or of the notes."""
        return [kind for kind, noted in self.sections if noted == note]

    def text(self, limit: int | None) -> str:
        """Sections (findings first), then the totals; per place the first `limit` names (None: all), one per line."""
        parts = [f"checked: {line}" for line in self.looked_at]
        for (kind, _), section in sorted(self.sections.items(), key=lambda item: item[1].note):
            parts += ["", f"{'note: ' if section.note else ''}{kind}: {section.count}"]
            for where, names in section.names.items():
                listed = names if limit is None else [some(names, limit)]
                parts += [f"  {where}: {name}" for name in listed]
        noted = sum(section.count for section in self.sections.values() if section.note)
        parts += ["", f"{self.found} findings of {len(self.kinds())} kinds, {noted} notes"]
        return "\n".join(parts)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the data module's log, whose content is in the report."""
    logger = logging.getLogger("datamodules")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
