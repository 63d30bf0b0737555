"""The runs that are there: a csv file with a line per run, written as runs end, so that a killed command loses at most
the runs that it was in.

>>> runs = Records(Path("docs/results/probes.csv"), Run)
>>> runs.find(probe="fixed", value="off", row="none", factor=1.0, seed=0)
"""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Generic, TypeVar

from filelock import FileLock, Timeout

from configs.errors import ConfigError


@dataclass(frozen=True)
class Cell:
    """One run that is to be made. value: the label of the knob's value. row: a name of masks.py."""

    probe: str
    value: str
    row: str
    factor: float
    seed: int


@dataclass(frozen=True)
class Searched:
    """A run of the search of rates; without loss and accuracy if its loss was not a number."""

    probe: str
    knob: str
    value: str
    mask: str
    fusion: str
    scope: str
    factor: float
    seed: int
    loss: float | None
    accuracy: float | None
    seconds: float
    commit: str

    @property
    def cell(self) -> Cell:
        return Cell(self.probe, self.value, f"{self.mask}-{self.fusion}" if self.fusion else self.mask, *self.at)

    @property
    def at(self) -> tuple[float, int]:
        return self.factor, self.seed


@dataclass(frozen=True)
class Run(Searched):
    """A reported run; without accuracy if it failed. steps_to_threshold: None if it did not come there in `steps`."""

    threshold: float
    steps: int
    steps_to_threshold: int | None
    frozen: float | None
    swapped: float | None
    shuffled: float | None


Kind = TypeVar("Kind", bound=Searched)
CASTS = {"str": str, "int": int, "float": float}


class Records(Generic[Kind]):
    """The lines of one file, by cell. Of two lines of one cell the first one counts.

    Raises ConfigError for a file that is not such a table. A last line without an end, which a killed command may
    leave, is dropped, and its run is made again.
    """

    def __init__(self, path: Path, kind: type[Kind]):
        self.path, self.kind = path, kind
        self.names = [field.name for field in fields(kind)]
        self.found: dict[Cell, Kind] = {}
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

    def find(self, cell: Cell) -> Kind | None:
        return self.found.get(cell)


@contextmanager
def only_command(folder: Path) -> Iterator[None]:
    """Raises ConfigError while another command runs probes into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".probes.lock", timeout=0):
            yield
    except Timeout:
        raise ConfigError(f"{folder}: another command runs probes into it; wait for it, or name another one") from None
