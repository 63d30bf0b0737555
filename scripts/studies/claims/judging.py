"""The rule by which a claim is judged, written before the runs (docs/preregistration.md).

Each data set that a claim is asked of gives one difference per seed, in the claim's direction. p is the exact sign-flip
test's, corrected by Holm over the data sets of the claim. A claim of a gain is supported there if p < .05, the mean is
a gain, and the gain is not shown to be below the margin; not supported if a one-sided t test at .05 excludes a gain of
the margin or more. A claim that there is no difference is supported if two one-sided t tests place the mean inside the
margin (p corrected by Holm), and not supported if the 95 % interval lies outside. All else is not resolved.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scripts.table import statistics
from scripts.table.statistics import ALPHA

Verdict = Literal["supported", "not supported", "not resolved", "begun", "not run"]  # begun: one pair, no interval
Whole = Literal["supported", "supported in part", "not supported", "not resolved", "not run"]
FEWEST = 2  # pairs
OPEN = ("begun", "not run")  # say nothing of the claim


@dataclass(frozen=True)
class Judged:
    """One data set of a claim. mean, interval: the differences' in the claim's direction. p: corrected by Holm.
    p_margin: that the gain is as large as the margin; for a claim that there is none, that it is outside."""

    n: int
    mean: float | None
    interval: tuple[float, float] | None
    p: float | None
    p_margin: float | None
    verdict: Verdict


def judged(kind: str, found: Sequence[Sequence[float]], margins: Sequence[float]) -> list[Judged]:
    """One for each data set. found: its differences, positive if they are in favour of the claim."""
    tests = [first_test(kind, differences, margin) for differences, margin in zip(found, margins, strict=True)]
    corrected = statistics.holm(tests)
    return [one(kind, *each) for each in zip(found, margins, corrected, strict=True)]


def first_test(kind: str, differences: Sequence[float], margin: float) -> float | None:
    if len(differences) < FEWEST:
        return None
    if kind == "same":
        return statistics.equivalence(list(differences), margin)
    return statistics.sign_flip(differences)


def one(kind: str, differences: Sequence[float], margin: float, p: float | None) -> Judged:
    n = len(differences)
    if n < FEWEST:
        return Judged(n, differences[0] if n else None, None, None, None, "begun" if n else "not run")
    mean, interval = sum(differences) / n, statistics.student(differences)
    shown = p is not None and p < ALPHA
    if kind == "same":
        outside = interval[0] > margin or interval[1] < -margin
        verdict: Verdict = "supported" if shown else "not supported" if outside else "not resolved"
        return Judged(n, mean, interval, p, statistics.equivalence(list(differences), margin), verdict)
    below = statistics.not_worse([-difference for difference in differences], margin)
    if below is not None and below < ALPHA:
        verdict = "not supported"
    else:
        verdict = "supported" if shown and mean > 0 else "not resolved"
    return Judged(n, mean, interval, p, below, verdict)


def whole(verdicts: Sequence[Verdict]) -> Whole:
    """What is said of the claim, of the data sets that have runs."""
    there = [one for one in verdicts if one not in OPEN]
    if not there:
        return "not run"
    if all(one == "supported" for one in there):
        return "supported"
    if "supported" in there:
        return "supported in part"
    return "not supported" if all(one == "not supported" for one in there) else "not resolved"
