"""What there is of the runs that a plan asks for, as the page, its figures and the judgements read it."""

from dataclasses import dataclass, field

from torch import Generator

from scripts.studies.probes import judging, training
from scripts.studies.probes.data import accuracy
from scripts.studies.probes.judging import INTERVENTIONS, Measured, Outcome, Scores
from scripts.studies.probes.masks import ROWS, Row
from scripts.studies.probes.probes import Probe
from scripts.studies.probes.records import Cell, Run
from scripts.studies.probes.running import Plan, runs_of, search_of


@dataclass
class Results:
    """The runs of a plan's seeds, each with the factor that the search found; those that are there when it is made."""

    plan: Plan
    known_floors: dict[str, dict[str, float | None]] = field(default_factory=dict)
    known_scores: dict[tuple[str, str, str], Scores] = field(default_factory=dict)

    def runs(self, probe: Probe, value: str, row: Row) -> list[Run]:
        """The runs of the plan's seeds, in their order; those of the canonical value."""
        factor = self.plan.factor(probe, row)
        if factor is None or row not in self.plan.rows:
            return []
        where = probe.canonical(probe.value(value), row).label
        cells = (Cell(probe.name, where, row.name, factor, seed) for seed in self.plan.seeds)
        return [run for cell in cells if (run := self.plan.runs.find(cell)) is not None]

    def scores(self, probe: Probe, value: str, subject: str) -> Scores:
        """Percent right by seed, of a row or of an intervention on it; without failed runs."""
        at = (probe.name, value, subject)
        if at not in self.known_scores:
            self.known_scores[at] = self.read(probe, value, subject)
        return self.known_scores[at]

    def read(self, probe: Probe, value: str, subject: str) -> Scores:
        first, _, name = subject.rpartition(" ")
        row = next(row for row in ROWS if row.name == name)
        kind = first if first in INTERVENTIONS else "accuracy"
        found = {run.seed: getattr(run, kind) for run in self.runs(probe, value, row)}
        return {seed: score for seed, score in found.items() if score is not None}

    def measured(self, probe: Probe) -> Measured:
        return lambda value, subject: self.scores(probe, value, subject)

    def lacking(self, probe: Probe, value: str, fusion: str) -> list[str]:
        """The rungs of a fusion that have fewer than two scores."""
        of = judging.rung_subjects(fusion)
        return [rung for rung, subject in of.items() if len(self.scores(probe, value, subject)) < 2]

    def outcomes(self, probe: Probe) -> list[Outcome]:
        """The predictions about the plan's rows."""
        known = {row.name for row in self.plan.rows}
        found = judging.outcomes(probe, self.measured(probe), self.floors(probe))
        return [one for one in found if one.subject.split(" ")[-1] in known]

    def floors(self, probe: Probe) -> dict[str, float | None]:
        """By value: what the probe's blind reader gets on the test samples; None if it has none."""
        if probe.name not in self.known_floors:
            self.known_floors[probe.name] = {value.label: None for value in probe.values}
            for value in probe.values if probe.floor else ():
                test = value.draw(Generator().manual_seed(training.TEST_FROM), training.TESTED)
                self.known_floors[probe.name][value.label] = accuracy(probe.floor(test), test.answers)
        return self.known_floors[probe.name]

    def there(self, probe: Probe) -> bool:
        """Whether a probe has any run that counts."""
        return any(self.runs(probe, value, row) for value, row in runs_of(probe, self.plan.rows))

    def counts(self, probe: Probe) -> tuple[int, int, int, int, int]:
        """The runs that are there, those that there are to be, the same of the search, and the failed ones."""
        wanted = runs_of(probe, self.plan.rows)
        runs = [run for value, row in wanted for run in self.runs(probe, value, row)]
        search = [cell for row in self.plan.rows if row.own_rate for cell in search_of(probe, row)]
        known = sum(self.plan.searched.find(cell) is not None for cell in search)
        failed = sum(run.accuracy is None for run in runs)
        return len(runs), len(wanted) * len(self.plan.seeds), known, len(search), failed
