"""Searches a learning rate for the baseline and for each mask, on validation, and writes what it found.

    python -m scripts.tune madv2                                        what is known, and what would have to run
    python -m scripts.tune madv2 --run                                  runs what is missing, then writes
    python -m scripts.tune madv2 --run --masks lcaam multi_lcaam table  other masks than the usual ones
    python -m scripts.tune madv2 --run --masks lcaam lcaam:add          a mask with another fusion than its own
    python -m scripts.tune madv2 --run --steps 0.5                      each run with half of the scale's steps

First the baseline's rate (task.lr), as factors on that of the scale; then, at the best of these, the factor on the rate
of each mask's own parameters (mask.lr_scale). Every row gets the same factors and the same seeds, which are not those
that results are reported of, on the data of data.seed=0, which results are not reported of either. What counts is the
mean over the seeds of the last validation's metric; a run that failed counts as the worst value. Nothing is chosen on
a test set.

It writes configs/tuned/<scale>/<task>/<mask>.yaml, which train.py reads whenever this mask is chosen at this scale, and
the table of the search, with all values, as docs/results/tuned_<task>_<scale>.md. Data with a recipe of their own
(configs/scale/data/) have their own files: configs/tuned/data/<scale>/<data>/. The same command goes on with a search
that was stopped. Beside the table lies a csv file with a line per run: runs that it has are not made again, also on a
machine that has none of their folders, and the table keeps the masks that were searched before.
"""

import argparse
import math
import shlex
import sys

from configs.composing import composed
from configs.errors import nearest
from configs.resolvers import ROOT
from lcaam.fusion import FUSIONS
from scripts.arguments import parser_for
from scripts.tune.found import page, write
from scripts.tune.search import BASELINE, Row, Search, base_of, known_masks, read, rounded, run

MASKS = ("lcaam", "multi_lcaam", "static_logsigmoid")
FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
SEEDS = (100, 101)


def stems(folder: str, pattern: str = "*") -> list[str]:
    return sorted(path.stem for path in (ROOT / "configs" / folder).glob(f"{pattern}.yaml"))


def arguments() -> argparse.Namespace:
    experiments = [name.removesuffix("_baseline") for name in stems("experiment", "*_baseline")]
    parser = parser_for("tune", __doc__)
    parser.add_argument("experiment", help=f"an experiment's name without its mask: {', '.join(experiments)}")
    known = "of configs/mask/, or MASK:FUSION; the baseline is always there"
    parser.add_argument("--masks", nargs="+", default=list(MASKS), help=known)
    parser.add_argument("--scale", default="mini")
    parser.add_argument("--factors", nargs="+", type=float, default=list(FACTORS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--steps", type=float, default=1.0, help="share of the scale's steps that each run trains")
    parser.add_argument("--metric", default="val/loss", help="what validation logs; default: val/loss")
    parser.add_argument("--mode", choices=("min", "max"), default="min")
    parser.add_argument("--run", action="store_true", help="run what is missing, and write")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further settings of every run")
    given = parser.parse_args()
    masks = [word.partition(":")[0] for word in given.masks]
    fusions = [word.partition(":")[2] for word in given.masks if ":" in word]
    choices = [("experiment", [given.experiment], experiments), ("--masks", masks, stems("mask"))]
    choices.append(("--masks: fusion", fusions, list(FUSIONS)))
    choices.append(("--scale", [given.scale], stems("scale")))
    for name, values, allowed in choices:
        for value in values:
            if value not in allowed:
                hint = nearest(value, allowed)
                parser.error(f"{name}: there is no {value!r}{hint}; allowed: {', '.join(allowed)}")
    given.masks = [with_own_fusion(word) for word in given.masks]
    for name in ("masks", "factors", "seeds"):
        if len(set(getattr(given, name))) < len(getattr(given, name)):
            parser.error(f"--{name}: a value is given twice")
    if any(not 0 < factor < math.inf for factor in given.factors):
        parser.error("--factors: must be finite numbers above 0")
    if not 0 < given.steps <= 1:
        parser.error(f"--steps: must be above 0 and at most 1, got {given.steps:g}")
    return given


def with_own_fusion(word: str) -> str:
    """The mask without a fusion that it has anyway: "lcaam:mul" is "lcaam"."""
    mask, _, fusion = word.partition(":")
    return mask if fusion and composed(f"mask={mask}").mask.fusion == fusion else word


def tuned(given: argparse.Namespace) -> str:
    """What the search found, or what it lacks; with `--run` it runs and writes."""
    task, base, steps = base_of(given.experiment, given.scale, given.set)
    search = Search(
        experiment=given.experiment,
        task=task,
        scale=given.scale,
        factors=tuple(sorted(given.factors)),
        seeds=tuple(given.seeds),
        metric=given.metric,
        lowest=given.mode == "min",
        base=base,
        max_steps=None if given.steps == 1 else round(given.steps * steps),
        further=tuple(given.set),
    )
    baseline = Row(BASELINE, base)
    if lacking := completed(search, [baseline], given.run):
        return lacking
    rate = rounded(base * baseline.best(search.lowest))
    masks = [Row(mask, rate) for mask in given.masks if mask != BASELINE]
    if masks and (lacking := completed(search, masks, given.run)):
        return lacking
    before = [Row(mask, rate) for mask in known_masks(search) if mask not in given.masks]
    rows = [baseline, *masks, *(row for row in before if not read(search, row).missing())]
    command = command_of(given, [row.mask for row in rows[1:]])
    if not given.run:
        return page(search, rows, command)
    files = "\n".join(f"    {path}" for path in write(search, rows, command))
    return f"{page(search, rows, command)}\nwritten:\n{files}\n"


def command_of(given: argparse.Namespace, masks: list[str]) -> str:
    """The command line of a search with these masks, in which only what differs from the defaults is written."""
    words = ["python", "-m", "scripts.tune", given.experiment, "--masks", *masks]
    if given.scale != "mini":
        words += ["--scale", given.scale]
    for name, usual in (("factors", FACTORS), ("seeds", SEEDS)):
        if (values := getattr(given, name)) != list(usual):
            words += [f"--{name}", *(f"{value:g}" for value in values)]
    if given.steps != 1:
        words += ["--steps", f"{given.steps:g}"]
    if (given.metric, given.mode) != ("val/loss", "min"):
        words += ["--metric", given.metric, "--mode", given.mode]
    return shlex.join([*words, *(["--set", *given.set] if given.set else []), "--run"])


def completed(search: Search, rows: list[Row], may_run: bool) -> str:
    """Reads the rows, after it ran what was missing of them; what is missing then, in words, or nothing."""
    lacking = [row for row in rows if read(search, row, keep=may_run).missing()]
    if lacking and may_run:
        run(search, lacking)
        lacking = [row for row in rows if read(search, row, keep=may_run).missing()]
    missing = sum(row.missing() for row in lacking)
    masks = ", ".join(row.mask for row in rows)
    return f"{missing} runs are missing (mask {masks}){'' if may_run else '; --run runs them'}\n" if missing else ""


def main() -> int:
    told = tuned(arguments())
    print(told, end="")
    return 1 if " runs are missing" in told.split("\n")[0] else 0


if __name__ == "__main__":
    sys.exit(main())
