"""Tables of runs, mean +- standard deviation over seeds, from nothing but their results.json.

    python -m scripts.report logs                                  every completed run under logs/
    python -m scripts.report logs --baseline madv2_baseline        with paired differences to that experiment
    python -m scripts.report logs --metrics cider exact --out docs/results/table.md
    python -m scripts.report logs --csv docs/results/table1a.csv   a row per run; a sweep takes them as completed
    python -m scripts.report --sweep logs/multirun/<time>          the table of a sweep, and what is missing in it

Runs with the same experiment, scale, parameters and mask, data, task and trainer settings are one group. A seed that
ran twice counts once (the latest); a run that failed, is unfinished or saw only some batches (a debug run) is listed
and not counted. Differences are paired by seed, with the 95 % interval of Student's t over the pairs, to those runs of
the baseline that have the same scale, data, task and trainer settings; with fewer than two common seeds there is none.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import listed, nearest
from datamodules.errors import DataError
from datamodules.formats.json_text import read_json
from scripts.arguments import parser_for
from scripts.learning_curves import logged
from scripts.table import words
from scripts.table.markdown import markdown
from scripts.table.speed import METRIC
from scripts.table.statistics import paired, spread
from tasks.common.cells import CELLS, commits_line, first_line, missing_lines, outcomes
from tasks.common.evaluations import evaluations
from tasks.common.known_runs import identity_of
from tasks.common.run_rows import row_of, write_rows

FORMAT = 1  # of results.json
SHOWN = ("enable_progress_bar", "enable_model_summary", "log_every_n_steps", "profiler")  # trainer; change no result
PARTS = ("mask", "data", "task", "trainer")  # parts of a record that hold settings
Group = dict[int, dict]  # runs by seed


def load(*folders: Path) -> tuple[list[dict], list[str]]:
    """The runs below the folders that count, each with its `folder`, oldest first, and a line about each other one."""
    runs, others = [], []
    for path in sorted({path for folder in folders for path in folder.rglob("results.json")}):
        try:
            run = read_json(path)
        except DataError as error:
            others.append(str(error))
            continue
        if not isinstance(run, dict):
            others.append(f"{path}: not the record of a run")
        elif run.get("format") != FORMAT:
            others.append(f"{path}: format {run.get('format')}, this script reads {FORMAT}")
        elif why := not_counted(run):
            others.append(f"{path}: {why}")
        else:
            runs.append(run | {"folder": path.parent})
    return sorted(runs, key=lambda run: run["started"]), others


def not_counted(run: dict) -> str:
    """Why a run is not counted; empty if it is."""
    if run["status"] != "completed":
        return run["status"]
    only_some = shortened(run)
    return f"debug run ({only_some})" if only_some else ""


def shortened(run: dict) -> str:
    """The trainer's settings by which a run saw only some batches, as text; empty if there are none."""
    trainer = run.get("trainer") or {}
    limits = {key: value for key, value in trainer.items() if key.startswith("limit_") and value is not None}
    debug = {key: trainer[key] for key in ("fast_dev_run", "overfit_batches") if trainer.get(key)}
    return ", ".join(f"trainer.{key}={value}" for key, value in (debug | limits).items())


def settings(run: dict) -> dict[str, dict | None]:
    """The settings that a result depends on, by part; None for a part that older records do not have."""
    dropped = {"data": run.get("places", ()), "trainer": SHOWN}
    found: dict[str, dict | None] = {}
    for part in PARTS:
        node = run.get(part)
        keep = None if node is None else {key: value for key, value in node.items() if key not in dropped.get(part, ())}
        found[part] = keep
    return found


def setting(run: dict) -> str:
    """What makes two runs comparable seeds of one another, as text."""
    same = {name: run[name] for name in ("experiment", "scale", "parameters", "tested")}
    return json.dumps({**same, **settings(run)}, sort_keys=True)


def surroundings(run: dict) -> str:
    """What a run must share with its baseline, as text: everything but experiment, mask and parameters."""
    same = {name: value for name, value in settings(run).items() if name != "mask"}
    return json.dumps({**same, "scale": run["scale"], "tested": run["tested"]}, sort_keys=True)


def first_of(group: Group) -> dict:
    return next(iter(group.values()))


def groups(runs: Iterable[dict]) -> list[Group]:
    """Runs by setting and seed; groups in the order of their experiment's name, then of their first run."""
    found: dict[str, Group] = {}
    for run in runs:
        found.setdefault(setting(run), {})[run["seed"]] = run
    return sorted(found.values(), key=lambda group: first_of(group)["experiment"])


def flat(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """`{"llm": {"frozen": True}}` -> `{"task.llm.frozen": True}`, with the prefix `task`."""
    leaves = {}
    for key, value in tree.items():
        inner = isinstance(value, Mapping) and value
        leaves |= flat(value, f"{prefix}.{key}") if inner else {f"{prefix}.{key}": value}
    return leaves


def apart(leaves: list[dict[str, Any]], mine: dict[str, Any]) -> list[str]:
    """`key=value` for each leaf of `mine` that is not the same in all `leaves`."""
    keys = dict.fromkeys(key for other in leaves for key in other)
    differing = [key for key in keys if len({json.dumps(other.get(key)) for other in leaves}) > 1]
    return [f"{key}={mine.get(key)}" for key in differing]


def names(found: list[Group]) -> list[str]:
    """A name for each group: its experiment, and what sets it apart from others of the same experiment and scale.

    Parameters are named only if no setting explains them, since a setting that changes them says more.
    """
    firsts = [first_of(group) for group in found]
    several_scales = len({first["scale"] for first in firsts}) > 1
    labels = []
    for first in firsts:
        rivals = [other for other in firsts if all(other[key] == first[key] for key in ("experiment", "scale"))]
        parts = [first["experiment"], *([f"scale={first['scale']}"] if several_scales else [])]
        for part in PARTS:
            known = [flat(node, part) for rival in rivals if (node := settings(rival)[part]) is not None]
            mine = settings(first)[part]
            unknown = [f"{part}=unknown"] if len(known) not in (0, len(rivals)) else []
            parts += unknown if mine is None else apart(known, flat(mine, part))
        parts += apart([{"tested": rival["tested"]} for rival in rivals], {"tested": first["tested"]})
        labels.append(" ".join(parts))
    sizes = [flat(first["parameters"], "parameters") for first in firsts]
    full = []
    for label, size in zip(labels, sizes, strict=True):
        rivals = [other for other, name in zip(sizes, labels, strict=True) if name == label]
        full.append(" ".join([label, *apart(rivals, size)]))
    return full


def values(runs: Iterable[dict], metric: str) -> list[float]:
    """The metric of the runs that have it; a value that was not a number is null in the record."""
    return [value for run in runs if (value := run["metrics"].get(metric)) is not None]


def mean_std(group: Group, metric: str) -> str:
    return words.mean_std(spread(values(group.values(), metric)), expected=len(group))


def difference(group: Group, baseline: Group, metric: str) -> str:
    """Mean paired difference to the baseline and its 95 % interval; `-` without two pairs that have the metric."""
    seeds = sorted(group.keys() & baseline.keys())
    both = [values((group[seed], baseline[seed]), metric) for seed in seeds]
    pairs = [pair for pair in both if len(pair) == 2]
    if len(pairs) < 2:
        return words.NOTHING
    found = paired(*zip(*pairs, strict=True))
    return words.counted(words.difference(found.mean, found.interval), found.n, len(seeds))


def baselines_of(group: Group, candidates: list[Group]) -> list[Group]:
    """Candidates that differ from the group only in experiment, mask and parameters; of several, those with no mask."""
    fitting = [other for other in candidates if surroundings(first_of(other)) == surroundings(first_of(group))]
    plain = [other for other in fitting if first_of(other)["mask"].get("scope") == "none"]
    return plain if len(fitting) > 1 and plain else fitting


def report(runs: list[dict], metrics: list[str] | None, baseline: str | None) -> str:
    """The markdown text: one row per group, floors and ceilings below, differences in a second table."""
    if not runs:
        raise ValueError("no completed run to report")
    found = groups(runs)
    there = list(dict.fromkeys(name for run in runs for name in run["metrics"]))
    if unknown := [name for name in metrics or () if name not in there]:
        raise ValueError(f"no run has the metric {unknown[0]!r}{nearest(unknown[0], there)} (metrics: {listed(there)})")
    metrics = metrics or there
    labels = names(found)
    rows = []
    for label, group in zip(labels, found, strict=True):
        count = sum(first_of(group)["parameters"].values())
        fit = np.median([run["seconds"]["fit"] for run in group.values()])
        rows.append([label, str(len(group)), *(mean_std(group, m) for m in metrics), f"{count:,}", f"{fit:.0f}"])
    for kind in dict.fromkeys(kind for run in runs for kind in run["floors"]):
        shown: dict[tuple[str, ...], str] = {}  # cells and the first group that has them
        for label, group in zip(labels, found, strict=True):
            scores = first_of(group)["floors"].get(kind, {})
            cells = tuple(f"{scores[m]:.2f}" if scores.get(m) is not None else "-" for m in metrics)
            if any(cell != "-" for cell in cells):
                shown.setdefault(cells, f" of {label}")
        name = f"*{kind.replace('_', ' ')}*"
        rows += [[name + label * (len(shown) > 1), "", *cells, "", ""] for cells, label in shown.items()]
    text = markdown(["experiment", "seeds", *metrics, "parameters", "seconds (fit)"], rows)
    return text if baseline is None else text + differences(found, labels, metrics, baseline)


def differences(found: list[Group], labels: list[str], metrics: list[str], baseline: str) -> str:
    """The second table, and a line about each group that has no baseline to be compared with."""
    candidates = [group for group in found if first_of(group)["experiment"] == baseline]
    if not candidates:
        raise ValueError(f"no completed run of the baseline {baseline!r}; there are {', '.join(labels)}")
    rows, alone = [], []
    for label, group in zip(labels, found, strict=True):
        fitting = baselines_of(group, candidates)
        if fitting == [group]:
            continue
        if len(fitting) != 1:
            rows.append([label, "-", *("-" for _ in metrics)])
            alone.append(
                f"\n{label}: {'several baselines' if fitting else 'no baseline'} with the same data and settings\n"
            )
            continue
        reference = fitting[0]
        pairs = len(group.keys() & reference.keys())
        rows.append([label, str(pairs), *(difference(group, reference, m) for m in metrics)])
    title = f"\nDifference to {baseline}, paired by seed: mean and 95 % interval (Student's t over seeds)\n\n"
    return title + markdown(["experiment", "pairs", *metrics], rows) + "".join(alone)


def sweep_report(folder: Path, metrics: list[str] | None, baseline: str | None) -> str:
    """What became of a sweep's jobs, in one line, and the table of those that count."""
    found = outcomes(folder)
    if not found:
        raise ValueError(f"no sweep wrote {CELLS} here")
    records = []
    for one in found:
        if one.state != "counted":
            continue
        record = json.loads((one.folder / "results.json").read_text(encoding="utf-8"))
        one.why = not_counted(record)
        if one.why:
            one.state = "not counted"
        else:
            records.append(record)
    lines = [first_line(found), *filter(None, [commits_line(records)])]
    missing = missing_lines(found)
    table = report(sorted(records, key=lambda run: run["started"]), metrics, baseline) if records else ""
    return "\n\n".join(filter(None, ["\n".join(lines), table.rstrip("\n"), "\n".join(missing)])) + "\n"


def write_csv(path: Path, runs: Iterable[dict]) -> int:
    """Writes a row per run, the latest of each identity. Returns the number of rows in the file."""
    rows = []
    for run in runs:
        identity = identity_of(run["folder"], run)
        if identity is None:
            raise ValueError(f"{run['folder']}: has neither an identity nor a config.yaml to find it by")
        again = {name: metrics for name, (_, metrics) in evaluations(run["folder"], run).items()}
        curve = logged(run["folder"]).get(METRIC, [])
        rows.append(row_of(run | {"interventions": again, "validations": curve}, identity))
    return write_rows(path, rows)


def main() -> None:
    parser = parser_for("report", __doc__)
    parser.add_argument("folders", type=Path, nargs="*", help="where to look for results.json, subfolders included")
    parser.add_argument("--sweep", type=Path, help="instead: the folder of a multirun, logs/multirun/<time>")
    parser.add_argument("--metrics", nargs="+", help="which metrics, in this order; default: all")
    parser.add_argument("--baseline", help="experiment that the others are compared with")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    parser.add_argument("--csv", type=Path, help="also write a row per run to this file, which may have others already")
    arguments = parser.parse_args()
    if bool(arguments.folders) == bool(arguments.sweep):
        parser.error("name either folders or --sweep FOLDER")
    where = [arguments.sweep] if arguments.sweep else arguments.folders
    try:
        if arguments.sweep:
            text = sweep_report(arguments.sweep, arguments.metrics, arguments.baseline)
            where = [one.folder for one in outcomes(arguments.sweep) if one.folder is not None]
        runs, others = load(*where)
        if not arguments.sweep:
            for line in others:
                print(f"not counted: {line}", file=sys.stderr)
            text = report(runs, arguments.metrics, arguments.baseline)
        if arguments.csv:
            number = write_csv(arguments.csv, runs)
            print(f"{arguments.csv}: {number} runs", file=sys.stderr)
    except ValueError as error:
        sys.exit(f"{', '.join(map(str, where))}: {error}")
    print(text, end="")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
