"""Eight small tasks, one knob each, with every mask of the ladder: where does a mask help, and which is the simplest?

    python -m scripts.studies.probes                                    what is there, what is missing; the page
    python -m scripts.studies.probes --run                              makes the runs that are missing, then the page
    python -m scripts.studies.probes --run --probe fixed query --seeds 0 1 2 3 --masks lcaam multi_lcaam-add table
    python -m scripts.studies.probes --time                             how long one run of each probe takes

First the rate of each mask's own parameters is searched: five factors and two seeds that are not reported, on other
data, at one value of the knob. Then every mask runs at every value with every seed. Each run is written when it ends;
the same command goes on with what is missing, and a run that is there is not made again. Predictions were written
before the runs (scripts/studies/probes/predictions.py), and stand beside their outcomes.

Writes in FOLDER: results/probes.md, results/probes.csv with a line per run, results/probes_search.csv with those of
the search, and images/probes/. --probe and --masks choose what is run; the page is about all that is there.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from configs.errors import ConfigError
from configs.resolvers import ROOT
from scripts.arguments import parser_for
from scripts.records import Records
from scripts.studies.probes import figures
from scripts.studies.probes.masks import ROWS, chosen
from scripts.studies.probes.page import page
from scripts.studies.probes.probes import PROBES, named
from scripts.studies.probes.records import Cell, Run, Searched, only_command
from scripts.studies.probes.results import Results
from scripts.studies.probes.running import Plan, complete, made, recorded, runs_of, searched
from scripts.studies.probes.training import SEEDS
from scripts.table.markdown import markdown
from tasks.common.environment import git_state

OUT = ROOT / "docs"
DEFAULT_SEEDS = (0, 1, 2, 3)
TIMED = "multi_lcaam-add"  # the row that --time runs: among the slowest


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = parser_for("studies.probes", __doc__)
    parser.add_argument("--probe", nargs="+", metavar="NAME", help=f"of {', '.join(one.name for one in PROBES)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(DEFAULT_SEEDS), help=f"from 0 to {SEEDS - 1}")
    rungs = dict.fromkeys(row.rung for row in ROWS)
    parser.add_argument(
        "--masks", nargs="+", metavar="NAME", help=f"of {', '.join(rungs)}; or with a fusion: lcaam-add"
    )
    parser.add_argument("--run", action="store_true", help="make the runs that are missing")
    parser.add_argument("--workers", type=int, choices=(1, 2), default=1, help="processes, one thread each")
    parser.add_argument("--time", action="store_true", help="time one run of each value, with a seed of the search")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help="default: docs")
    found = parser.parse_args(given)
    if len(set(found.seeds)) < len(found.seeds):
        parser.error("--seeds: a seed is given twice")
    if any(not 0 <= seed < SEEDS for seed in found.seeds):
        parser.error(f"--seeds: from 0 to {SEEDS - 1}, so that none meets the data of tests or of the search")
    return found


def main(given: Sequence[str] | None = None) -> None:
    asked = arguments(given)
    try:
        print(told(asked), end="")
    except (ConfigError, OSError) as error:
        sys.exit(str(error))


def told(asked: argparse.Namespace) -> str:
    """What the command prints."""
    probes, rows = named(asked.probe), chosen(asked.masks)
    folder = asked.out / "results"
    if asked.time:
        return times(Plan(probes, rows, asked.seeds, Records(Path(), Searched), Records(Path(), Run)))
    with only_command(folder):
        known = Records(folder / "probes_search.csv", Searched), Records(folder / "probes.csv", Run)
        plan = Plan(probes, rows, asked.seeds, *known)
        if asked.run:
            commit = git_state()["commit"] or ""
            complete(list(plan.search_cells()), plan.searched, searched, commit, True, asked.workers)
            complete(list(plan.cells()), plan.runs, recorded, commit, False, asked.workers)
        path = written(Plan(PROBES, ROWS, asked.seeds, *known), asked.out)
        counts = {probe.name: Results(plan).counts(probe) for probe in probes}
    lines = [f"{name}: {one[0]} of {one[1]} runs, {one[2]} of {one[3]} of the search" for name, one in counts.items()]
    return "\n".join([*lines, f"written: {path}"]) + "\n"


def written(plan: Plan, out: Path) -> Path:
    """Writes the page and its figures, about all probes and masks; where."""
    results = Results(plan)
    path = out / "results" / "probes.md"
    pictures = {}
    for probe in plan.probes:
        if results.there(probe):
            picture = figures.write(results, probe, out / "images" / "probes")
            pictures[probe.name] = Path(os.path.relpath(picture, path.parent)).as_posix()
    words = [] if tuple(plan.seeds) == DEFAULT_SEEDS else ["--seeds", *map(str, plan.seeds)]
    words += [] if out == OUT else ["--out", str(out)]
    command = shlex.join(["python", "-m", "scripts.studies.probes", *words])
    path.write_text(page(results, command, pictures), encoding="utf-8")
    return path


def times(plan: Plan) -> str:
    """A table: runs, measured seconds of one, their sum; the last line is the total in minutes."""
    lines, total = [], 0.0
    made(Cell("fixed", "off", TIMED, 1.0, 100), search=False)  # the first run of a process is slower
    for probe in plan.probes:
        search = len([cell for cell in plan.search_cells() if cell.probe == probe.name])
        for value in probe.values:
            number = sum(label == value.label for label, _ in runs_of(probe, plan.rows)) * len(plan.seeds)
            extra = search if value.label == probe.searched else 0
            seconds = made(Cell(probe.name, value.label, TIMED, 1.0, 100), search=False).seconds
            total += seconds * (number + extra)
            cells = [probe.name, value.label, str(value.steps), str(number), str(extra), f"{seconds:.1f}"]
            lines.append([*cells, f"{seconds * (number + extra):.0f}"])
    lines.append(["all", "", "", "", "", "", f"{total:.0f} s = {total / 60:.0f} min"])
    return markdown(["probe", "value", "steps", "runs", "runs of the search", "CPU seconds of one", "sum"], lines)


if __name__ == "__main__":
    main()
