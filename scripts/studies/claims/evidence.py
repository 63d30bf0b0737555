"""The differences, seed by seed, that a claim is judged by: from the tables' runs and from the probes' runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from configs.errors import ConfigError
from scripts.records import Records
from scripts.studies.claims.claims import Claim, OfProbe, OfTable, Pair
from scripts.studies.claims.studies import RESULTS
from scripts.studies.probes import judging as probes
from scripts.studies.probes.masks import ROWS
from scripts.studies.probes.probes import PROBES, named
from scripts.studies.probes.records import Run, Searched
from scripts.studies.probes.results import Results
from scripts.studies.probes.running import Plan
from scripts.table.contrasts import named as row_named
from scripts.table.summary import Table

SEEDS = range(12)  # of probes: those that have runs count


@dataclass(frozen=True)
class Evidence:
    """One data set of a claim. differences: positive if they are in favour of the claim. page: the results that it is
    from. lowest: the lowest rungs that reach the row, if the table says so. new_seeds: as of OfTable."""

    where: str
    said: str
    metric: str
    margin: float
    differences: list[float]
    page: str
    lowest: list[str] = field(default_factory=list)
    new_seeds: bool = False


def evidence(claim: Claim) -> list[Evidence]:
    """What there is for each data set of a claim, in its order."""
    return [of_probe(one) if isinstance(one, OfProbe) else of_table(one) for one in claim.asked]


def of_table(asked: OfTable) -> Evidence:
    """Raises ConfigError for a row that the table does not have, and for a table without a margin."""
    table = asked.study.table
    margin = next((one.margin for one in table.contrasts if one.metric == table.primary and one.margin), None)
    if margin is None:
        raise ConfigError(f"sweep={asked.study.sweep}: {table.primary} has no margin, so no claim can be judged by it")
    found = apart(table, asked.pair)
    said = " - ".join(asked.pair)
    if asked.less is not None:
        others = apart(table, asked.less)
        found = {seed: value - others[seed] for seed, value in found.items() if seed in others}
        said = f"({said}) - ({' - '.join(asked.less)})"
    sign = 1 if table.higher_is_better else -1
    lowest = next((one.lowest for one in table.explanations if one.row == asked.pair[0]), [])
    differences = [sign * value for _, value in sorted(found.items())]
    page = f"{asked.study.name}.md"
    return Evidence(asked.where, said, table.primary, margin, differences, page, lowest, asked.new_seeds)


def apart(table: Table, pair: Pair) -> Mapping[int, float]:
    """The differences by seed."""
    first, second = (
        row_named(table.rows, label, f"a claim about {table.name}").values(table.primary) for label in pair
    )
    return {seed: value - second[seed] for seed, value in first.items() if seed in second}


def of_probe(asked: OfProbe) -> Evidence:
    probe = named([asked.probe])[0]
    measured = results().measured(probe)
    scores = [measured(asked.value, subject) for subject in asked.pair]
    found = probes.differences(*scores)
    explained = probes.explanation(asked.value, probes.fusion_of(asked.pair[0]), measured)
    lowest = explained[1] if explained is not None and explained[0] else []
    return Evidence(asked.where, " - ".join(asked.pair), "% right", probes.MARGIN, found, "probes.md", lowest)


@cache
def results() -> Results:
    """All runs of the probes that are there."""
    known = Records(RESULTS / "probes_search.csv", Searched), Records(RESULTS / "probes.csv", Run)
    return Results(Plan(PROBES, ROWS, SEEDS, *known))
