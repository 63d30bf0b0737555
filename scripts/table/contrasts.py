"""Which rows are compared, and what may be said of each difference.

The pre-registered contrasts of a sweep (`table.contrasts`) are tested on the primary metric in their order, each at
p < .05, the next only if the one before it was below. Every other difference to the baseline is exploratory: Holm's
correction over the exploratory contrasts of one metric.
"""

from collections.abc import Iterable, Mapping, Sequence

from configs.errors import ConfigError, nearest
from scripts.table import statistics
from scripts.table.items import Items
from scripts.table.labels import parts_of
from scripts.table.summary import Contrast, Role, Row, Table, Verdict
from tasks.common.directions import higher_is_better

Pair = tuple[Row, Row]


def baselines(rows: Sequence[Row], baseline: str) -> list[Row]:
    """The rows whose label is `baseline`, or has it as a part: "full attention, fraction 0.1"."""
    wanted, long = set(parts_of(baseline)), [row for row in rows if row.own]
    exact = [row for row in long if row.label == baseline]
    found = exact or [row for row in long if wanted <= set(parts_of(row.label))]
    labels = [parts_of(row.label) for row in found]
    return found + [row for row in rows if row.steps is not None and parts_of(row.label)[:-1] in labels]


def baseline_of(row: Row, candidates: Sequence[Row]) -> Row:
    """The baseline that has most of its label and of its overrides in common with the row."""
    common = [
        len({*parts_of(row.label), *row.overrides} & {*parts_of(one.label), *one.overrides}) for one in candidates
    ]
    return candidates[common.index(max(common))]


def named(rows: Sequence[Row], label: str, what: str) -> Row:
    """ConfigError, with the nearest label, if no row has it."""
    there = [row.label for row in rows]
    if label not in there:
        raise ConfigError(f"{what}: {label!r} is not a row{nearest(label, there)} (rows: {'; '.join(there)})")
    return rows[there.index(label)]


def registered(
    table: Table, candidates: Sequence[Row], contrasts: Iterable[Mapping[str, str]], whole: bool
) -> list[Pair]:
    """The pre-registered pairs. candidates: the baselines. whole: the table has all rows of its sweep; else a pair that
    is not there becomes a remark.

    Raises ConfigError for a label that no row of a whole table has.
    """
    pairs = []
    for number, one in enumerate(contrasts):
        try:
            row = named(table.rows, one["row"], f"table.contrasts[{number}].row")
            what = f"table.contrasts[{number}].against"
            against = named(table.rows, one["against"], what) if "against" in one else baseline_of(row, candidates)
        except ConfigError:
            if whole:
                raise
            table.remarks.append(f"the pre-registered contrast of {one['row']} is not in this part of the table")
            continue
        pairs.append((row, against))
    return pairs


def compared(table: Table, candidates: Sequence[Row], primary: Sequence[Pair], margin: float | None) -> list[Contrast]:
    """All contrasts: the pre-registered ones first, then each row against its baseline, metric by metric."""
    items = Items(table.task)
    first = [contrast(*pair, table.primary, "primary", margin, items) for pair in primary]
    for one, p in zip(first, statistics.fixed_sequence([one.p_sign_flip for one in first]), strict=True):
        one.p_adjusted = p
    known = {(one.row, one.against) for one in first}
    others: list[Contrast] = []
    for metric in dict.fromkeys((table.primary, *table.metrics)):
        pairs = [(row, baseline_of(row, candidates)) for row in table.rows if row not in candidates]
        if metric == table.primary:
            pairs = [(row, against) for row, against in pairs if (row.label, against.label) not in known]
            pairs += [(row, named(table.rows, row.of, "the row of its runs")) for row in table.rows if row.of]
        mine = margin if metric == table.primary else None
        found = [contrast(row, against, metric, "exploratory", mine, items) for row, against in pairs]
        for one, p in zip(found, statistics.holm([one.p_sign_flip for one in found]), strict=True):
            one.p_adjusted = p
        others += found
    for one in (*first, *others):
        one.verdict = verdict(one)
    return first + others


def contrast(row: Row, against: Row, metric: str, role: Role, margin: float | None, items: Items) -> Contrast:
    """The difference of two rows over their common seeds; its correction and its verdict follow."""
    values, others = row.values(metric), against.values(metric)
    seeds = [seed for seed in values if seed in others]
    found = statistics.paired([values[seed] for seed in seeds], [others[seed] for seed in seeds])
    return Contrast(
        row=row.label,
        against=against.label,
        metric=metric,
        n=found.n,
        differences=found.differences,
        mean=float("nan") if found.mean is None else found.mean,
        interval=found.interval,
        p_sign_flip=found.p_sign_flip,
        p_t=found.p_t,
        p_adjusted=None,
        role=role,
        margin=margin,
        verdict="not resolved",
        hodges_lehmann=found.hodges_lehmann,
        exact=found.exact,
        p_equivalence=statistics.equivalence(found.differences, margin),
        p_scatter=statistics.scatter(list(values.values()), list(others.values())),
        items=items.interval(row.runs, against.runs, metric),
    )


def verdict(one: Contrast) -> Verdict:
    """A difference that is shown to be below the margin is called so, whether or not it is a difference."""
    if one.p_equivalence is not None and one.p_equivalence < statistics.ALPHA:
        return "no difference above the margin"
    if one.p_adjusted is not None and one.p_adjusted < statistics.ALPHA:
        return "helps" if (one.mean > 0) == higher_is_better(one.metric) else "hurts"
    return "not resolved"
