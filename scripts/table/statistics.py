"""The numbers of a table, all from SciPy: means, intervals, tests over seeds, and their corrections.

>>> paired([51.0, 49.0, 53.0], [50.0, 49.5, 50.0])      differences seed by seed, and what they allow to say

Nothing here knows a run: functions take the values of one metric, in the order of the seeds.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

ALPHA = 0.05
EXACT_UP_TO = 20  # pairs; 2^20 sign flips are counted one by one, of more pairs so many are drawn
DRAWS = 100_000
DRAWN_WITH = 0  # seed of what is drawn


@dataclass
class Spread:
    """n values: mean, standard deviation with n - 1 (None of a single value), median, the least and the largest."""

    n: int
    mean: float
    std: float | None
    median: float
    least: float
    most: float


def spread(values: Sequence[float]) -> Spread | None:
    """None without a value."""
    if not len(values):
        return None
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Spread(len(values), float(np.mean(values)), std, float(np.median(values)), min(values), max(values))


@dataclass
class Paired:
    """What differences, one per pair, say of their mean. Of fewer than two pairs only `mean` is there.

    interval: 95 %, Student's t. hodges_lehmann: the median of the means of all pairs of differences, each with itself
    too. p_sign_flip: two-sided; if `exact`, over all 2^n signs, else over DRAWS drawn ones. p_t: paired t test; None if
    all differences are equal, since t is then no number.
    """

    differences: list[float]
    mean: float | None
    interval: tuple[float, float] | None = None
    hodges_lehmann: float | None = None
    p_sign_flip: float | None = None
    p_t: float | None = None
    exact: bool = True

    @property
    def n(self) -> int:
        return len(self.differences)


def paired(values: Sequence[float], against: Sequence[float]) -> Paired:
    """The first row's values minus the second's, seed by seed. ValueError if they are not as many."""
    found = [one - other for one, other in zip(values, against, strict=True)]
    n = len(found)
    if n < 2:
        return Paired(found, found[0] if found else None)
    mean = float(np.mean(found))
    estimates = student(found), hodges_lehmann(found)
    return Paired(found, mean, *estimates, sign_flip(found), p_t(found), n <= EXACT_UP_TO)


def student(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean."""
    mean, n = float(np.mean(values)), len(values)
    half = float(stats.t.ppf(1 - ALPHA / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return mean - half, mean + half


def hodges_lehmann(differences: Sequence[float]) -> float:
    first, second = np.triu_indices(len(differences))
    values = np.asarray(differences)
    return float(np.median((values[first] + values[second]) / 2))


def sign_flip(differences: Sequence[float]) -> float:
    """Two-sided p of the mean, if each difference could as well have had the other sign. At least 2 / 2^n."""
    values = np.asarray(differences, dtype=float)
    least = abs(values.sum()) - 1e-12 * np.abs(values).sum()  # sums of the same numbers differ by rounding
    if len(values) > EXACT_UP_TO:
        signs = np.random.default_rng(DRAWN_WITH).choice([-1.0, 1.0], size=(DRAWS, len(values)))
        return float((np.sum(np.abs(signs @ values) >= least) + 1) / (DRAWS + 1))
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= least))


def p_t(differences: Sequence[float]) -> float | None:
    if equal(differences):
        return None
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def equal(values: Sequence[float]) -> bool:
    """Whether all values are one number, but for rounding."""
    return float(np.ptp(values)) <= 1e-12 * max(1.0, float(np.max(np.abs(values))))


def equivalence(differences: Sequence[float], margin: float | None) -> float | None:
    """p of two one-sided t tests (TOST) that the mean difference lies within the margin; None if it cannot be asked.

    Equal differences say nothing of how far others may lie, so nothing is shown by them.
    """
    if margin is None or margin <= 0 or len(differences) < 2 or equal(differences):
        return None
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    return float(max(above, below))


def not_worse(differences: Sequence[float], margin: float | None) -> float | None:
    """p of the one-sided t test that the mean difference is above -margin; None as in `equivalence`."""
    if margin is None or margin <= 0 or len(differences) < 2 or equal(differences):
        return None
    return float(stats.ttest_1samp(differences, -margin, alternative="greater").pvalue)


def scatter(values: Sequence[float], against: Sequence[float]) -> float | None:
    """p of the Brown-Forsythe test that both scatter alike around their medians; None if it cannot be asked."""
    if min(len(values), len(against)) < 3:  # two values lie equally far from their median: p would be 0
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # neither scatters: 0 / 0
        p = float(stats.levene(values, against, center="median").pvalue)
    return None if math.isnan(p) else p


def share(count: int, of: int) -> tuple[float, float]:
    """The 95 % Clopper-Pearson interval of a share, in [0, 1]. ValueError for a share of nothing."""
    found = stats.binomtest(count, of).proportion_ci(1 - ALPHA, method="exact")
    return float(found.low), float(found.high)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p values, in the same order; None stays None and is not counted."""
    there = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(there):
        largest = max(largest, min(1.0, (len(there) - rank) * p))
        adjusted[place] = largest
    return adjusted


def fixed_sequence(p_values: Sequence[float | None]) -> list[float | None]:
    """Each p value as it is, as long as all before it are below ALPHA; None for those that are not tested any more."""
    tested: list[float | None] = []
    going_on = True
    for p in p_values:
        tested.append(p if going_on else None)
        going_on = going_on and p is not None and p < ALPHA
    return tested


def crossed_bootstrap(differences: np.ndarray, draws: int = 10_000) -> tuple[float, float]:
    """The 95 % percentile interval of the mean difference, (seeds, items), if both were drawn anew.

    Rows and columns are resampled independently of one another.
    """
    seeds, items = differences.shape
    generator = np.random.default_rng(DRAWN_WITH)
    means = []
    for at in range(0, draws, 500):
        number = min(500, draws - at)
        rows = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=number) / seeds
        columns = generator.multinomial(items, np.full(items, 1 / items), size=number) / items
        means.append(((rows @ differences) * columns).sum(1))
    low, high = np.quantile(np.concatenate(means), [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)
