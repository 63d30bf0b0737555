"""The results that are there: a csv file with a line per result, written as results come, so that a killed command
loses at most the one that it was in.

>>> runs = Records(Path("docs/results/probes.csv"), Run)  # a dataclass whose `cell` says what a line is the result of
>>> runs.find(cell)
"""

import csv
import io
from collections.abc import Hashable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from configs.errors import ConfigError


class Recorded(Protocol):
    """A dataclass of texts and numbers, some of which may be None. cell: what it is the result of."""

    __dataclass_fields__: Any

    @property
    def cell(self) -> Hashable: ...


Kind = TypeVar("Kind", bound=Recorded)
CASTS = {"str": str, "int": int, "float": float}


class Records(Generic[Kind]):
    """The lines of one file, by cell. Of two lines of one cell the first one counts.

    Raises ConfigError for a file that is not such a table. A last line without an end, which a killed command may
    leave, is dropped, and its result is made again.
    """

    def __init__(self, path: Path, kind: type[Kind]):
        self.path, self.kind = path, kind
        self.names = [field.name for field in fields(kind)]
        self.found: dict[Hashable, Kind] = {}
        self.whole = 0  # bytes of the file that are whole lines
        text = path.read_bytes() if path.is_file() else b""
        self.whole = text.rfind(b"\n") + 1
        lines = csv.DictReader(io.StringIO(self.decoded(text[: self.whole])))
        if self.whole and lines.fieldnames != self.names:
            raise ConfigError(f"{path}: not a table of these runs; its columns must be {', '.join(self.names)}")
        for number, line in enumerate(lines, start=2):
            record = self.read(number, line)
            self.found.setdefault(record.cell, record)

    def decoded(self, text: bytes) -> str:
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            raise ConfigError(f"{self.path}: not a table of these runs: it is not text") from None

    def read(self, number: int, line: dict[str, str]) -> Kind:
        values = {}
        for field in fields(self.kind):
            given, optional = line[field.name], "None" in str(field.type)
            kind = str(field.type).split(" ")[0] if optional else field.type.__name__
            try:
                values[field.name] = None if optional and given == "" else CASTS[kind](given)
            except (TypeError, ValueError):
                raise ConfigError(f"{self.path}, line {number}: {field.name} is {given!r}, not a value") from None
        return self.kind(**values)

    def add(self, record: Kind) -> None:
        """Writes one line, and hands it to the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("r+b" if self.path.is_file() else "w+b") as file:
            file.truncate(self.whole)
            file.seek(self.whole)
            text = io.StringIO()
            writer = csv.DictWriter(text, self.names, lineterminator="\n")
            if not self.whole:
                writer.writeheader()
            writer.writerow(asdict(record))
            file.write(text.getvalue().encode("utf-8"))
            file.flush()
            self.whole = file.tell()
        self.found.setdefault(record.cell, record)

    def find(self, cell: Hashable) -> Kind | None:
        return self.found.get(cell)
