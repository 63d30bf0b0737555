"""What docs/does-the-mask-help.md and the README have from runs: claims with verdicts, and what is to run."""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from configs.errors import ConfigError
from scripts.studies.claims.claims import Claim
from scripts.studies.claims.evidence import Evidence
from scripts.studies.claims.judging import OPEN, Judged, judged, whole
from scripts.studies.claims.studies import Study
from scripts.table import words
from scripts.table.markdown import markdown
from scripts.table.summary import Row

SHORTER = (
    0.2  # share of a whole run's seconds that a run takes which goes on from its saved state with half of the steps
)


@dataclass(frozen=True)
class Answer:
    """A claim with what there is for each of its data sets."""

    claim: Claim
    found: list[Evidence]

    @property
    def judged(self) -> list[Judged]:
        return judged(self.claim.kind, [one.differences for one in self.found], [one.margin for one in self.found])


def overview(answers: Sequence[Answer]) -> str:
    """A line per claim."""
    lines = []
    for one in answers:
        verdicts = [each.verdict for each in one.judged]
        ran = f"{sum(verdict not in OPEN for verdict in verdicts)} of {len(verdicts)}"
        link = f"[{one.claim.says}](#{one.claim.name})"
        lines.append([link, one.claim.source, ran, f"**{whole(verdicts)}**"])
    return markdown(["claim", "said by", "data sets with runs", "verdict"], lines)


def of_claim(answer: Answer) -> str:
    """A line per data set, with the numbers that the verdict follows from."""
    lines = []
    for found, one in zip(answer.found, answer.judged, strict=True):
        name = found.metric
        effect = words.difference(one.mean, one.interval, name)
        numbers = [str(one.n), effect, f"{found.margin:g}", words.p_value(one.p), words.p_value(one.p_margin)]
        lowest = ", ".join(found.lowest) if one.verdict == "supported" and found.lowest else words.NOTHING
        where = f"{found.where}, new seeds" if found.new_seeds else found.where
        page = f"[{where}](results/{found.page})" if one.n else where
        lines.append([page, found.said, name, *numbers, lowest, one.verdict])
    beyond = "p of a gain of the margin" if answer.claim.kind == "better" else "p of a difference of the margin"
    header = ["data", "difference", "of", "n", "mean [95 %]", "margin", "p (Holm)", beyond, "lowest rungs", "verdict"]
    return markdown(header, lines)


def gains(answers: Sequence[Answer], columns: Mapping[str, str]) -> str:
    """A line per data set, with the effect and the verdict of several claims beside each other.

    columns: the head of a column for the name of its claim. Other seeds of the same data are in the same line.
    """
    cells: dict[str, dict[str, str]] = {}
    metrics: dict[str, str] = {}
    for answer in answers:
        if answer.claim.name not in columns:
            continue
        for found, one in zip(answer.found, answer.judged, strict=True):
            effect = words.difference(one.mean, one.interval, found.metric)
            ran = f"{one.n} {'new ' if found.new_seeds else ''}seeds"
            cells.setdefault(found.where, {})[answer.claim.name] = (
                f"{effect} *{one.verdict}*, [{ran}](docs/results/{found.page})"
            )
            metrics[found.where] = f"{found.metric}, {found.margin:g}"
    lines = [
        [data, metrics[data], *(claims.get(name, words.NOTHING) for name in columns)] for data, claims in cells.items()
    ]
    return markdown(["data", "score, margin", *columns.values()], lines)


def plan(studies: Sequence[Study]) -> str:
    """What each table takes, and what of it is there. Runs that two tables share are counted at the first."""
    lines, counted, total = [], set(), 0.0
    for study in studies:
        rows = [row for row in study.table.rows if row.of is None]
        cells = {(row.settings, seed): seed in row.runs for row in rows for seed in row.expected}
        new = {cell: there for cell, there in cells.items() if cell not in counted}
        counted |= set(new)
        shorter = {row.settings for row in rows if row.steps is not None}
        missing = [cell for cell, there in new.items() if not there]
        took = trained(rows)
        one = study.seconds if took is None else took
        left = sum(one * (SHORTER if settings in shorter else 1) for settings, _ in missing) / 60
        total += left
        reckoned = f"{study.seconds}" if study.timed else f"about {study.seconds}"
        measured = words.NOTHING if took is None else f"{took:.0f}"
        lines.append([f"`{study.name}`", str(len(new)), str(sum(new.values())), reckoned, measured, f"{left:.0f}"])
    header = ["table", "runs of its own", "there", "CPU seconds of one, planned", "median training, s", "minutes left"]
    return markdown(header, [*lines, ["all", "", "", "", "", f"{total:.0f}"]])


def trained(rows: Sequence[Row]) -> float | None:
    """Seconds from the first step to the last, the median of the rows' whole runs; None without one."""
    seconds = [run["seconds"]["fit"] for row in rows if row.own for run in row.runs.values()]
    return statistics.median(seconds) if seconds else None


def commands(studies: Sequence[Study]) -> str:
    """How each table is made again from the committed csv files."""
    return "\n".join(f"    {study.command}" for study in studies if any(row.runs for row in study.table.rows)) + "\n"


def renewed(text: str, parts: Mapping[str, str]) -> str:
    """The page with its parts written anew, each between <!-- begin NAME --> and <!-- end NAME -->.

    Raises ConfigError if the page lacks one of them.
    """
    for name, content in parts.items():
        pattern = re.compile(rf"(<!-- begin {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
        text, found = pattern.subn(lambda match, content=content: f"{match[1]}\n{content}\n{match[2]}", text)
        if found != 1:
            raise ConfigError(f"the page has {found} parts <!-- begin {name} --> ... <!-- end {name} -->, expected one")
    return text
