"""How runs are judged: each prediction, the lowest rung that explains a gain, and whether a probe tells masks apart.

The rules were written before the runs; scores are percent right, and all differences are paired by seed.

A claim on a score (floor, part, ok) holds if the 95 % interval of the mean over seeds lies in its band, fails if the
interval lies outside, and is open if a bound of the band lies in it. A claim on a difference is judged by its 95 %
interval in the same way: "=" asks for it between -MARGIN and MARGIN, ">" for it above 0, "<" for it below 0, ">=" for
it above -MARGIN; ">" and "<" also fail if the interval lies between -MARGIN and MARGIN. With fewer than two seeds all
is open. Intervals are Student's; that of n equal numbers is a point, which is fair here: each of them is a mean over
2,000 test samples.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from lcaam.ladder import RUNGS, minimal
from scripts.studies.probes.masks import ROWS, Row
from scripts.studies.probes.predictions import EVERY, PREDICTIONS, Claim
from scripts.studies.probes.probes import Probe
from scripts.table.statistics import student

MARGIN = 3.0  # points; smaller differences do not matter here
INTERVENTIONS = ("frozen", "swapped", "shuffled")
FULL = "multi_lcaam"  # whose gain is explained, and whose masks "frozen" is about if nothing is said
Judged = Literal["holds", "fails", "open"]
Interval = tuple[float, float]
Scores = Mapping[int, float]  # by seed
Measured = Callable[[str, str], Scores]  # (value of the knob, subject) -> scores; empty if there are none


@dataclass(frozen=True)
class Outcome:
    """One prediction beside what came of it. interval: that of the score, or of
    the difference that the claim is about."""

    value: str
    subject: str
    said: str
    designed: bool
    n: int
    mean: float | None
    interval: Interval | None
    judged: Judged


# -- subjects: rows, and interventions on a row ------------------------------------------------------------------------


def subjects(name: str, rows: Sequence[Row] = ROWS) -> list[str]:
    """The subjects that a name of a claim stands for, one per fusion: "columns" -> columns-add, columns-mul; "frozen"
    -> "frozen multi_lcaam-add", "frozen multi_lcaam-mul". ValueError for an unknown one."""
    first, _, rest = name.partition(" ")
    if first in INTERVENTIONS:
        return [f"{first} {row}" for row in subjects(rest or FULL, rows)]
    found = [row.name for row in rows if name in (row.rung, row.name)]
    if not found:
        raise ValueError(f"unknown row {name!r}; allowed: {', '.join(row.name for row in rows)}")
    return found


def fusion_of(subject: str) -> str:
    return subject.rpartition("-")[2] if "-" in subject else ""


def beside(subject: str, reference: str) -> str:
    """The subject that a subject is compared with: that of its own fusion if the reference has several."""
    found = subjects(reference)
    same = [other for other in found if fusion_of(other) == fusion_of(subject)]
    return found[0] if len(found) == 1 else same[0]


# -- predictions -------------------------------------------------------------------------------------------------------


def outcomes(probe: Probe, measured: Measured, floors: Mapping[str, float | None]) -> list[Outcome]:
    """Every prediction of a probe, in the order of the values, then as they were written. floors: by value."""
    found = []
    for value in probe.values:
        for claim in PREDICTIONS[probe.name]:
            if claim.values is EVERY or value.label in claim.values:
                found += list(judged_at(probe, value.label, claim, measured, floors[value.label]))
    return found


def judged_at(probe: Probe, value: str, claim: Claim, measured: Measured, floor: float | None) -> Iterator[Outcome]:
    for row in claim.rows:
        for subject in subjects(row):
            if not is_model(probe, value, subject):
                continue
            about = values_of(claim.said, value, subject, measured)
            interval = student(about) if len(about) > 1 else None
            mean = sum(about) / len(about) if about else None
            verdict = "open" if interval is None else judge(claim.said, interval, floor)
            yield Outcome(value, subject, claim.said, claim.designed, len(about), mean, interval, verdict)


def is_model(probe: Probe, value: str, subject: str) -> bool:
    """Whether the row is a model of its own at this value (no mask has no depth)."""
    name = subject.split(" ")[-1]
    row = next(row for row in ROWS if row.name == name)
    return probe.canonical(probe.value(value), row).label == value


def values_of(said: str, value: str, subject: str, measured: Measured) -> list[float]:
    """What a claim is about, seed by seed: scores, or differences to the reference."""
    scores = measured(value, subject)
    relation = parsed(said)
    if relation is None:
        return list(scores.values())
    _, reference, where = relation
    return differences(scores, measured(where or value, beside(subject, reference)))


def differences(scores: Scores, others: Scores) -> list[float]:
    """Those of the seeds that both have."""
    return [scores[seed] - others[seed] for seed in scores if seed in others]


def parsed(said: str) -> tuple[str, str, str | None] | None:
    """("=", "none", "no") of "= none @ no"; None of a claim on a score. ValueError for any other text."""
    if said in ("floor", "part", "ok"):
        return None
    found = re.fullmatch(r"(=|>=|>|<) ([\w-]+)(?: @ (.+))?", said)
    if found is None:
        raise ValueError(f"a claim of {said!r}; allowed: floor, part, ok, or =, >=, >, < and a row")
    return found[1], found[2], found[3]


def judge(said: str, interval: Interval, floor: float | None = None) -> Judged:
    """The rule. floor: the probe's, for claims on a score; ValueError for such a claim without one."""
    low, high = interval
    relation = parsed(said)
    if relation is None:
        if floor is None:
            raise ValueError(f"a claim of {said!r} about a probe without a floor")
        quarter = (100.0 - floor) / 4
        bands = {
            "floor": (None, floor + quarter),
            "part": (floor + quarter, 100 - quarter),
            "ok": (100 - quarter, None),
        }
        return within(interval, *bands[said])
    sign = relation[0]
    if sign == "=":
        return within(interval, -MARGIN, MARGIN)
    if sign == ">=":
        return within(interval, -MARGIN, None)
    if sign == "<":
        low, high = -high, -low
    if low > 0:
        return "holds"
    return "fails" if high <= 0 or within((low, high), -MARGIN, MARGIN) == "holds" else "open"


def within(interval: Interval, least: float | None, most: float | None) -> Judged:
    """Whether an interval lies in a band, whose ends belong to it, outside, or across one of its ends."""
    low, high = interval
    if (least is not None and high < least) or (most is not None and low > most):
        return "fails"
    return "holds" if (least is None or low >= least) and (most is None or high <= most) else "open"


# -- the lowest rung, and what a probe tells apart -------------------------------------------------------------------


def rung_subjects(fusion: str) -> dict[str, str]:
    """The subjects of one fusion, by rung of the ladder; interventions are those on Multi-LCAAM."""
    found = {row.rung: row.name for row in ROWS if row.rung in RUNGS and row.fusion in ("", fusion)}
    return found | {name: f"{name} {FULL}-{fusion}" for name in INTERVENTIONS}


def explanation(value: str, fusion: str, measured: Measured) -> tuple[bool, list[str]] | None:
    """Whether Multi-LCAAM gains, and the lowest rungs that explain its gain; None with fewer than two seeds.

    It gains if the 95 % interval of its difference to no mask lies above MARGIN. A rung reaches the gain if the 95 %
    interval of its difference to Multi-LCAAM lies above -MARGIN: a rung that is better reaches it too.
    """
    of = rung_subjects(fusion)
    full = measured(value, of[FULL])
    gain = differences(full, measured(value, of["none"]))
    if len(gain) < 2:
        return None
    if student(gain)[0] <= MARGIN:
        return False, []
    reaching = [rung for rung, subject in of.items() if reaches(differences(measured(value, subject), full))]
    return True, minimal(reaching, multiplies=fusion == "mul")


def reaches(found: Sequence[float]) -> bool:
    return len(found) > 1 and student(found)[0] >= -MARGIN


@dataclass(frozen=True)
class Separation:
    """Two rungs that differ: the first is better by `mean` points."""

    value: str
    better: str
    worse: str
    n: int
    mean: float
    interval: Interval

    @property
    def shown(self) -> bool:
        """Whether they are told apart: the 95 % interval lies above MARGIN."""
        return self.interval[0] > MARGIN


def separation(probe: Probe, measured: Measured) -> Separation | None:
    """The two rungs of one fusion, at one value, whose difference is the surest: its 95 % interval has the highest
    lower end. None without two runs to compare. Interventions count as rungs."""
    found = []
    for value in probe.values:
        for fusion in ("add", "mul"):
            for first, second in combinations(rung_subjects(fusion).values(), 2):
                found += list(compared(value.label, first, second, measured))
    return max(found, key=lambda one: one.interval[0], default=None)


def compared(value: str, first: str, second: str, measured: Measured) -> Iterator[Separation]:
    gaps = differences(measured(value, first), measured(value, second))
    if len(gaps) < 2:
        return
    if sum(gaps) < 0:
        first, second, gaps = second, first, [-gap for gap in gaps]
    yield Separation(value, first, second, len(gaps), sum(gaps) / len(gaps), student(gaps))
