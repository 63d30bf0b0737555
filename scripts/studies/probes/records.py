"""What is kept of a probe's run: a line of a csv file (scripts.records), and one command at a time that writes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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


@contextmanager
def only_command(folder: Path) -> Iterator[None]:
    """Raises ConfigError while another command runs probes into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".probes.lock", timeout=0):
            yield
    except Timeout:
        raise ConfigError(f"{folder}: another command runs probes into it; wait for it, or name another one") from None
