"""Which runs there are to be, and the making of those that are missing."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

import torch

from scripts.records import Records
from scripts.studies.probes.masks import ROWS, Row
from scripts.studies.probes.probes import PROBES, Probe
from scripts.studies.probes.records import Cell, Run, Searched
from scripts.studies.probes.training import Result, run
from scripts.tune.search import Row as SearchedRow

FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
SEARCH_SEEDS = (100, 101)


@dataclass(frozen=True)
class Plan:
    """What is asked for, and the files of what is there."""

    probes: Sequence[Probe]
    rows: Sequence[Row]
    seeds: Sequence[int]
    searched: Records[Searched]
    runs: Records[Run]

    def search_cells(self) -> Iterator[Cell]:
        """The runs of the search of every mask's rate, one value of the knob per probe."""
        for probe in self.probes:
            for row in self.rows:
                if row.own_rate:
                    yield from search_of(probe, row)

    def cells(self) -> Iterator[Cell]:
        """The reported runs, seed by seed; without those of a mask whose search is not complete."""
        for probe in self.probes:
            factors = {row.name: self.factor(probe, row) for row in self.rows}
            for seed in self.seeds:
                for value, row in runs_of(probe, self.rows):
                    if (factor := factors[row.name]) is not None:
                        yield Cell(probe.name, value, row.name, factor, seed)

    def factor(self, probe: Probe, row: Row) -> float | None:
        """The factor on a mask's rate with the least mean loss; None while its search is not complete."""
        if not row.own_rate:
            return 1.0
        found = {factor: [self.searched.find(cell) for cell in search_of(probe, row, (factor,))] for factor in FACTORS}
        losses: dict[float, list[float | None]] = {}
        for factor, records in found.items():
            if any(record is None for record in records):
                return None
            losses[factor] = [failed(record.loss) for record in records if record is not None]
        return SearchedRow(row.name, 1.0, losses).best(lowest=True)


def failed(loss: float | None) -> float:
    """A loss, the worst one for a run that failed."""
    return float("inf") if loss is None else loss


def search_of(probe: Probe, row: Row, factors: Sequence[float] | None = None) -> Iterator[Cell]:
    """The runs of the search of a mask's rate; factors: some of them, all if None."""
    for factor in factors or FACTORS:
        for seed in SEARCH_SEEDS:
            yield Cell(probe.name, probe.searched, row.name, factor, seed)


def runs_of(probe: Probe, rows: Sequence[Row]) -> list[tuple[str, Row]]:
    """The (value, row) pairs of a probe that are models of their own."""
    return [
        (value.label, row) for value in probe.values for row in rows if probe.canonical(value, row).label == value.label
    ]


def made(cell: Cell, search: bool) -> Result:
    """Runs one cell, on one thread."""
    torch.set_num_threads(1)
    probe = next(probe for probe in PROBES if probe.name == cell.probe)
    row = next(row for row in ROWS if row.name == cell.row)
    return run(probe, probe.value(cell.value), row, cell.factor, cell.seed, search)


def recorded(cell: Cell, result: Result, commit: str) -> Run:
    """A line of the csv file of reported runs."""
    probe = next(probe for probe in PROBES if probe.name == cell.probe)
    row = next(row for row in ROWS if row.name == cell.row)
    return Run(
        probe=cell.probe,
        knob=probe.knob,
        value=cell.value,
        mask=row.rung,
        fusion=row.fusion,
        scope=row.scope,
        factor=cell.factor,
        seed=cell.seed,
        loss=rounded(result.loss, 4),
        accuracy=rounded(result.accuracy),
        seconds=round(result.seconds, 2),
        commit=commit,
        threshold=probe.threshold,
        steps=result.steps,
        steps_to_threshold=result.reached,
        frozen=rounded(result.frozen),
        swapped=rounded(result.swapped),
        shuffled=rounded(result.shuffled),
    )


def searched(cell: Cell, result: Result, commit: str) -> Searched:
    """A line of the csv file of the search."""
    whole = recorded(cell, result, commit)
    return Searched(**{name: getattr(whole, name) for name in Searched.__dataclass_fields__})


def rounded(value: float | None, places: int = 3) -> float | None:
    return None if value is None else round(value, places)


def complete(
    cells: Sequence[Cell],
    records: Records,
    record: Callable[[Cell, Result, str], Searched],
    commit: str,
    search: bool,
    workers: int,
) -> int:
    """Makes the runs that are missing and writes each as it ends; how many there were. workers: processes; of one, it
    is this one."""
    missing = [cell for cell in cells if records.find(cell) is None]
    for number, (cell, result) in enumerate(results(missing, search, workers), start=1):
        records.add(record(cell, result, commit))
        score = "failed" if result.accuracy is None else f"{result.accuracy:.1f} %"
        what = f"{'search ' if search else ''}{cell.probe} {cell.value}, {cell.row} x{cell.factor:g}, seed {cell.seed}"
        print(f"{number} of {len(missing)}: {what}: {score}, {result.seconds:.1f} s", file=sys.stderr, flush=True)
    return len(missing)


def results(cells: Sequence[Cell], search: bool, workers: int) -> Iterator[tuple[Cell, Result]]:
    if workers == 1:
        for cell in cells:
            yield cell, made(cell, search)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(made, cell, search): cell for cell in cells}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)
