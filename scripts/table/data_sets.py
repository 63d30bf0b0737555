"""Differences over several data sets, which say something of new data; those over seeds are about one data set.

`table.data_sets` names the setting that makes another data set (`data.seed`). The differences of a row to its baseline
are averaged over the seeds of each data set, and Student's interval is over these means: n is the number of data sets.
"""

from collections.abc import Sequence

import numpy as np

from configs.errors import ConfigError
from scripts.table.contrasts import baseline_of
from scripts.table.expected import key_of
from scripts.table.labels import parts_of
from scripts.table.statistics import paired, student
from scripts.table.summary import OverDataSets, Row


def over_data_sets(rows: Sequence[Row], key: str, candidates: Sequence[Row], metric: str) -> list[OverDataSets]:
    """One for each setting whose rows differ in `key` alone. candidates: the baselines.

    Raises ConfigError if no row sets the key.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.own and any(key_of(word) == key for word in row.overrides):
            groups.setdefault(tuple(word for word in row.overrides if key_of(word) != key), []).append(row)
    if not groups:
        raise ConfigError(f"table.data_sets: no row of the sweep sets {key}")
    baselines = [row.label for row in candidates]
    found = [summed(group, candidates, metric) for group in groups.values() if group[0].label not in baselines]
    return [one for one in found if one is not None]


def summed(group: Sequence[Row], candidates: Sequence[Row], metric: str) -> OverDataSets | None:
    """None without a pair of runs."""
    common = [part for part in parts_of(group[0].label) if all(part in parts_of(row.label) for row in group)]
    differences: dict[str, list[float]] = {}
    against: list[Row] = []
    for row in group:
        other = baseline_of(row, candidates)
        mine, theirs = row.values(metric), other.values(metric)
        seeds = [seed for seed in mine if seed in theirs]
        if seeds:
            apart = ", ".join(part for part in parts_of(row.label) if part not in common)
            differences[apart] = paired([mine[seed] for seed in seeds], [theirs[seed] for seed in seeds]).differences
            against.append(other)
    if not differences:
        return None
    means = {name: float(np.mean(found)) for name, found in differences.items()}
    ends = [set(parts_of(row.label)) for row in against]
    shared = [part for part in parts_of(against[0].label) if all(part in one for one in ends)]
    several = len(means) > 1
    return OverDataSets(
        row=", ".join(common),
        against=", ".join(shared) if several else against[0].label,
        means=means,
        seeds=min(map(len, differences.values())),
        mean=float(np.mean(list(means.values()))),
        interval=student(list(means.values())) if several else None,
        between=float(np.std(list(means.values()), ddof=1)) if several else None,
        within=pooled(list(differences.values())),
    )


def pooled(samples: Sequence[Sequence[float]]) -> float | None:
    """The standard deviation around each sample's own mean; None without a sample of two."""
    freedom = sum(len(values) - 1 for values in samples)
    if freedom == 0:
        return None
    return float(np.sqrt(sum(np.var(values) * len(values) for values in samples) / freedom))
