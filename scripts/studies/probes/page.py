"""The page of the probes: what is there and what is missing, then probe by probe the scores, the lowest rungs that
explain a gain, and each prediction beside its outcome."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from scripts.studies.probes import judging
from scripts.studies.probes.judging import INTERVENTIONS, MARGIN, Outcome, Scores
from scripts.studies.probes.masks import ROWS, Row
from scripts.studies.probes.probes import Probe, Value
from scripts.studies.probes.results import Results
from scripts.table import words
from scripts.table.markdown import markdown
from scripts.table.statistics import paired, spread

LABELS = {row.name: row.label for row in ROWS}
NOTES = f"""\
Scores are percent right of the last weights on 2,000 test samples: mean ± standard deviation over seeds (n - 1).
Differences are paired by seed, with Student's 95 % interval and the exact two-sided sign-flip test, whose smallest p
is 2 / 2^n; all are exploratory, without a correction for their number. *frozen*, *swapped*, *shuffled*: the same run
with other masks ([the ladder](../ladder.md#interventions-on-a-trained-run)). *Steps*: the mean number of steps until
the threshold was reached on 500 test samples, read every 50 steps; a run that did not come there counts with all its
steps (restricted mean). A run that means the same at several values of the knob is listed at the first. *Factor*: on
the learning rate of the mask's own parameters, from the search. What a prediction may say, and how it is judged:
[the probes](../probes.md#predictions-and-how-they-are-judged). The margin is {MARGIN:g} points."""


def page(results: Results, command: str, pictures: dict[str, str]) -> str:
    """The whole text. pictures: by probe, a path from the page's folder."""
    parts = ["# Results of the probes", f"    {command}", there(results)]
    shown = [probe for probe in results.plan.probes if results.there(probe)]
    if shown:
        parts += ["## Summary", summary(results, shown), NOTES]
    for probe in shown:
        parts += of_probe(results, probe, pictures.get(probe.name))
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def there(results: Results) -> str:
    """How many runs there are, and how many are missing of each probe."""
    lines = []
    for probe in results.plan.probes:
        runs, of, search, of_search, failed = results.counts(probe)
        lines.append([probe.title, f"{runs} of {of}", f"{search} of {of_search}", str(failed)])
    seeds = ", ".join(map(str, results.plan.seeds))
    commits = sorted({run.commit[:10] for run in results.plan.runs.found.values()})
    table = markdown(["probe", "runs", "runs of the search", "failed"], lines)
    text = f"Seeds {seeds}. The same command with `--run` makes the runs that are missing."
    return f"{text}\n\n{table}\n" + (f"Commits of the runs: {', '.join(commits)}." if commits else "")


# -- all probes ----------------------------------------------------------------------------------------------------


def summary(results: Results, probes: Sequence[Probe]) -> str:
    lines = []
    for probe in probes:
        found = results.outcomes(probe)
        apart = judging.separation(probe, results.measured(probe))
        told = words.NOTHING
        if apart is not None:
            difference = f"{words.difference(apart.mean, apart.interval)} (n = {apart.n}, {probe.knob} {apart.value})"
            told = f"{said(apart.better)} over {said(apart.worse)}: {difference}"
            told = told if apart.shown else f"**none by more than {MARGIN:g} points**: {told}"
        lines.append([probe.title, told, counted(found, True), counted(found, False)])
    header = ["probe", "the surest separation of two rungs", "designed predictions", "added predictions"]
    return markdown(header, lines)


def counted(found: Sequence[Outcome], designed: bool) -> str:
    """`5 hold, 1 fails, 2 open`."""
    number = Counter(one.judged for one in found if one.designed == designed)
    verbs = [kind if number[kind] == 1 else kind.removesuffix("s") for kind in ("holds", "fails")]
    return f"{number['holds']} {verbs[0]}, {number['fails']} {verbs[1]}, {number['open']} open"


def said(subject: str) -> str:
    """A subject in words: "Multi-LCAAM, add, frozen"."""
    first, _, row = subject.partition(" ")
    return f"{LABELS[row]}, {first}" if row else LABELS[first]


# -- one probe -----------------------------------------------------------------------------------------------------


def of_probe(results: Results, probe: Probe, picture: str | None) -> list[str]:
    parts = [f"## {probe.title}", probe.asks]
    if picture:
        parts.append(f'<img src="{picture}" width="900" alt="{probe.title}: score and steps over {probe.knob}">')
    for value in probe.values:
        if lines := [line for row in ROWS if (line := line_of(results, probe, value, row))]:
            floor = results.floors(probe)[value.label]
            floor_text = "" if floor is None else f" Floor {floor:.1f} %."
            title = f"### {probe.name}: {probe.knob} {value.label}"
            about = (
                f"{value.steps} steps; threshold {probe.threshold:g} %.{floor_text}{explained(results, probe, value)}"
            )
            parts += [title, about, markdown(HEADER, lines)]
    return [*parts, predictions(results, probe)]


HEADER = ["mask", "factor", "% right", "n", "against", "difference [95 %]", "p sign-flip", *INTERVENTIONS]
HEADER += ["steps", "came there", "failed"]


def line_of(results: Results, probe: Probe, value: Value, row: Row) -> list[str] | None:
    """A row of a value's table; None if the row has no runs of its own here."""
    runs = results.runs(probe, value.label, row)
    if probe.canonical(value, row) is not value or not runs:
        return None
    measured = results.measured(probe)
    scores = measured(value.label, row.name)
    against = LABELS[row.against] if row.rung != row.against else ""
    apart, p = words.NOTHING, words.NOTHING
    if against:
        others = measured(value.label, row.against)
        seeds = [seed for seed in scores if seed in others]
        found = paired([scores[seed] for seed in seeds], [others[seed] for seed in seeds])
        apart, p = words.difference(found.mean, found.interval), words.p_value(found.p_sign_flip)
    changed = [mean_of(measured(value.label, f"{name} {row.name}")) for name in INTERVENTIONS]
    steps = [run.steps if run.steps_to_threshold is None else run.steps_to_threshold for run in runs]
    reached = sum(run.steps_to_threshold is not None for run in runs)
    factor = f"x{runs[0].factor:g}" if row.own_rate else ""
    failed = sum(run.accuracy is None for run in runs)
    score = words.mean_std(spread(list(scores.values())))
    line = [row.label, factor, score, str(len(scores)), against, apart, p, *changed]
    return [*line, f"{fmean(steps):.0f}", f"{reached} of {len(runs)}", str(failed) if failed else ""]


def mean_of(scores: Scores) -> str:
    return words.number(fmean(scores.values())) if scores else ""


def explained(results: Results, probe: Probe, value: Value) -> str:
    """Whether Multi-LCAAM gains, and the lowest rungs that reach its gain, by fusion."""
    parts = []
    for fusion in ("add", "mul"):
        found = judging.explanation(value.label, fusion, results.measured(probe))
        if found is None:
            continue
        gains, rungs = found
        name = LABELS[f"{judging.FULL}-{fusion}"]
        lacking = results.lacking(probe, value.label, fusion)
        unless = f" (without runs so far: {', '.join(lacking)})" if lacking else ""
        reached = f"lowest rungs that reach it: **{' and '.join(rungs)}**{unless}"
        parts.append(f" {name} gains; {reached}." if gains else f" {name}: no gain.")
    return "".join(parts)


def predictions(results: Results, probe: Probe) -> str:
    """Each prediction beside its outcome."""
    lines = []
    for one in results.outcomes(probe):
        text = words.difference(one.mean, one.interval) if judging.parsed(one.said) else score(one)
        source = "designed" if one.designed else "added"
        judged = f"**{one.judged}**" if one.judged == "fails" else one.judged
        lines.append([one.value, said(one.subject), source, one.said, text, str(one.n), judged])
    header = [probe.knob, "mask", "prediction", "says", "outcome [95 %]", "n", "judged"]
    return f"### {probe.name}: predictions and outcomes\n\n" + markdown(header, lines)


def score(one: Outcome) -> str:
    if one.mean is None:
        return words.NOTHING
    return words.number(one.mean) + ("" if one.interval is None else f" {words.between(one.interval)}")
