"""Tables of runs, mean +- standard deviation over seeds, from nothing but their results.json.

    python scripts/report.py logs                                  every completed run under logs/
    python scripts/report.py logs --baseline madv2_baseline        with paired differences to that experiment
    python scripts/report.py logs --metrics cider exact --out docs/results/table.md

Runs with the same experiment, scale, mask, data and parameters are one group. A seed that ran twice counts once (the
latest); a run that failed or is unfinished is listed and not counted. Differences are paired by seed, with the 95 %
interval of Student's t over the pairs; with fewer than two common seeds there is none.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy import stats

FORMAT = 1  # of results.json
ELSEWHERE = ("root", "speech_dir", "num_workers")  # of the data: where they lie, not what they are


def load(folder: Path) -> tuple[list[dict], list[str]]:
    """The completed runs below `folder`, oldest first, and a line about each other one."""
    runs, others = [], []
    for path in sorted(folder.rglob("results.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        if run.get("format") != FORMAT:
            others.append(f"{path}: format {run.get('format')}, this script reads {FORMAT}")
        elif run["status"] != "completed":
            others.append(f"{path}: {run['status']}")
        else:
            runs.append(run)
    return sorted(runs, key=lambda run: run["started"]), others


def setting(run: dict) -> str:
    """What makes two runs comparable seeds of one another, as text."""
    data = {name: value for name, value in run["data"].items() if name not in ELSEWHERE}
    same = {name: run[name] for name in ("experiment", "scale", "mask", "parameters", "tested")}
    return json.dumps({**same, "data": data}, sort_keys=True)


def groups(runs: Iterable[dict]) -> list[dict[int, dict]]:
    """Runs by setting and seed; groups in the order of their experiment's name, then of their first run."""
    found: dict[str, dict[int, dict]] = {}
    for run in runs:
        found.setdefault(setting(run), {})[run["seed"]] = run
    return sorted(found.values(), key=lambda group: next(iter(group.values()))["experiment"])


def names(found: list[dict[int, dict]]) -> list[str]:
    """A name for each group: its experiment, and what sets it apart from others of the same experiment."""
    firsts = [next(iter(group.values())) for group in found]
    labels = []
    for first in firsts:
        rivals = [other for other in firsts if other["experiment"] == first["experiment"]]
        parts = [first["experiment"]]
        if len({other["scale"] for other in firsts}) > 1:
            parts.append(f"scale={first['scale']}")
        for part in ("mask", "data"):
            keys = [key for key in first[part] if key not in ELSEWHERE]
            differing = [key for key in keys if len({json.dumps(other[part].get(key)) for other in rivals}) > 1]
            parts += [f"{part}.{key}={first[part][key]}" for key in differing]
        labels.append(" ".join(parts))
    return labels


def mean_std(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.2f}" if values else "-"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


def difference(group: dict[int, dict], baseline: dict[int, dict], metric: str) -> str:
    """Mean paired difference to the baseline, its 95 % interval, and the number of pairs."""
    seeds = sorted(group.keys() & baseline.keys())
    pairs = [
        group[s]["metrics"][metric] - baseline[s]["metrics"][metric] for s in seeds if metric in group[s]["metrics"]
    ]
    if len(pairs) < 2:
        return "-"
    half = stats.t.ppf(0.975, len(pairs) - 1) * np.std(pairs, ddof=1) / np.sqrt(len(pairs))
    mean = np.mean(pairs)
    return f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def report(runs: list[dict], metrics: list[str] | None, baseline: str | None) -> str:
    """The markdown text: one row a group, floors and ceilings below, differences in a second table."""
    if not runs:
        raise ValueError("no completed run to report")
    found = groups(runs)
    metrics = metrics or list(dict.fromkeys(name for run in runs for name in run["metrics"]))
    labels = names(found)
    rows = []
    for label, group in zip(labels, found, strict=True):
        count = sum(next(iter(group.values()))["parameters"].values())
        cells = [mean_std([r["metrics"][m] for r in group.values() if m in r["metrics"]]) for m in metrics]
        fit = np.median([run["seconds"]["fit"] for run in group.values()])
        rows.append([label, str(len(group)), *cells, f"{count:,}", f"{fit:.0f}"])
    for kind in dict.fromkeys(kind for run in runs for kind in run["floors"]):
        shown = []
        for group in found:
            scores = next(iter(group.values()))["floors"].get(kind, {})
            cells = [f"{scores[m]:.2f}" if m in scores else "-" for m in metrics]
            if cells not in shown and any(cell != "-" for cell in cells):
                shown.append(cells)
        rows += [[f"*{kind.replace('_', ' ')}*", "", *cells, "", ""] for cells in shown]
    text = markdown(["experiment", "seeds", *metrics, "parameters", "seconds (fit)"], rows)
    if baseline is None:
        return text
    reference = next((group for group in found if next(iter(group.values()))["experiment"] == baseline), None)
    if reference is None:
        raise ValueError(f"no completed run of the baseline {baseline!r}; there are {', '.join(labels)}")
    rows = [
        [label, str(len(group.keys() & reference.keys())), *(difference(group, reference, m) for m in metrics)]
        for label, group in zip(labels, found, strict=True)
        if group is not reference
    ]
    title = f"\nDifference to {baseline}, paired by seed: mean and 95 % interval (Student's t over seeds)\n\n"
    return text + title + markdown(["experiment", "pairs", *metrics], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to look for results.json, subfolders included")
    parser.add_argument("--metrics", nargs="+", help="which metrics, in this order; default: all")
    parser.add_argument("--baseline", help="experiment that the others are compared with")
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    arguments = parser.parse_args()
    runs, others = load(arguments.folder)
    for line in others:
        print(f"not counted: {line}", file=sys.stderr)
    try:
        text = report(runs, arguments.metrics, arguments.baseline)
    except ValueError as error:
        sys.exit(f"{arguments.folder}: {error}")
    print(text, end="")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
