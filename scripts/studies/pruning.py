"""Does a mask prune redundant connections? Scores of trained runs without the k % of the keys that count least.

    python -m scripts.studies.pruning logs/madv2_baseline/mini logs/madv2_multi_lcaam/mini --csv pruning.csv
    python -m scripts.studies.pruning RUNS ... --csv pruning.csv --shares 0 0.25 0.5 --metric exact

RUNS are run folders, or folders in which they lie. Every completed run is tested with each share of its keys dropped,
in every sample and layer: those with the lowest mean attention weight, and for runs with masks also those with the
lowest mean mask value (docs/ladder.md#pruned-keys). The table has the mean score of each setting over its seeds, and
what it has lost since share 0 beyond what plain attention lost there, paired by seed. A row of the csv is a test; the
command goes on with a csv that has some.
"""

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from configs.contradictions import owner
from configs.errors import ConfigError, nearest
from configs.resolvers import ROOT
from configs.saved import load, open_run
from configs.words import setting_name
from datamodules.errors import DataError
from eval import evaluate
from scripts.arguments import parser_for
from scripts.sweep_runs import below
from scripts.sweep_runs import read as record_of
from scripts.table.markdown import markdown
from scripts.table.statistics import paired
from tasks.common.errors import CheckpointError
from tasks.common.files import write_text

SHARES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
COLUMNS = ("run", "setting", "masked", "seed", "by", "share", "metric", "value")
Row = dict[str, str]


def completed(run: Path) -> bool:
    """Raises ConfigError for a results.json that is not the record of a run."""
    try:
        return record_of(run / "results.json").get("status") == "completed"
    except ValueError as error:
        raise ConfigError(str(error)) from error


def wanted(run: Path, shares: Sequence[float], metric: str | None) -> list[Row]:
    """The tests of a run, without their values. Raises ConfigError for a folder that is none, or an unknown metric."""
    cfg = load(run / "config.yaml")
    masked = cfg.mask.scope != "none" and cfg.mask.control == "none"
    known = owner(OmegaConf.to_container(cfg), "task").headline
    metric = metric or cfg.primary.metric
    if metric not in known:
        raise ConfigError(f"--metric: {metric} is not a metric of {run}{nearest(metric, known)} ({', '.join(known)})")
    named = {"run": str(run), "setting": setting_name(cfg), "masked": str(int(masked)), "seed": str(cfg.seed)}
    criteria = ("attention", "mask") if masked else ("attention",)
    return [{**named, "by": by, "share": f"{share:g}", "metric": metric} for by in criteria for share in shares]


def tested(row: Row) -> Row:
    """The row with its score."""
    words = [f"run={row['run']}", "intervention=pruned", f"prune={row['share']}", f"prune_by={row['by']}"]
    folder = Path(row["run"]) / "eval" / f"pruned_{row['by']}_{row['share']}"
    output = evaluate(*open_run(OmegaConf.load(ROOT / "configs" / "eval.yaml"), [*words, f"output={folder}"]))
    found = OmegaConf.load(output / "metrics.json")
    return {**row, "value": repr(float(found[row["metric"]]))}


def read(path: Path) -> list[Row]:
    """The rows of a csv of this command; none if it is not there. Raises ConfigError for another file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ConfigError(f"--csv {path}: is not a table of this command, whose columns are {', '.join(COLUMNS)}")
        return list(reader)


def append(path: Path, row: Row) -> None:
    if not path.is_file():
        write_text(path, ",".join(COLUMNS) + "\n")
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, COLUMNS).writerow(row)


def same(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in COLUMNS if name != "value")


def table(rows: Iterable[Row]) -> str:
    """A line per setting, criterion and share. Losses are paired with those of the one setting without masks."""
    values: dict[tuple[str, str, str, float], dict[str, float]] = {}
    for row in rows:
        key = (row["masked"], row["setting"], row["by"], float(row["share"]))
        values.setdefault(key, {})[row["seed"]] = float(row["value"])
    plain = {key[1] for key in values if key[0] == "0"}
    lines = []
    for masked, setting, by, share in sorted(values):
        mine = values[masked, setting, by, share]
        mean = sum(mine.values()) / len(mine)
        lines.append([setting, by, f"{100 * share:g} %", str(len(mine)), f"{mean:.2f}", ""])
        if masked == "0" or len(plain) != 1 or share == 0:
            continue
        (other,) = plain
        four = [mine, values.get((masked, setting, by, 0.0), {})]
        four += [values.get(("0", other, "attention", one), {}) for one in (share, 0.0)]
        if seeds := sorted(set.intersection(*map(set, four)), key=int):
            lost = [[one[seed] - own[seed] for seed in seeds] for one, own in (four[:2], four[2:])]
            found = paired(*lost)
            span = "" if found.n < 2 else f" [{found.interval[0]:+.2f}, {found.interval[1]:+.2f}]"
            lines[-1][-1] = f"{found.mean:+.2f}{span}, n = {found.n}"
    head = ["setting", "keys by", "dropped", "seeds", "score", "change minus that of plain attention [95 %]"]
    return markdown(head, lines)


def main(arguments: list[str] | None = None) -> None:
    parser = parser_for("studies.pruning", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, or folders in which they lie")
    parser.add_argument("--csv", type=Path, required=True, help="where the tests are kept, a row each")
    parser.add_argument("--shares", nargs="+", type=float, default=list(SHARES), help="of the keys that are dropped")
    parser.add_argument("--metric", help="default: the task's primary metric")
    given = parser.parse_args(arguments)
    if wrong := [share for share in given.shares if not 0 <= share < 1]:
        parser.error(f"--shares {wrong[0]:g}: must be at least 0 and below 1")
    if not given.csv.parent.is_dir():
        parser.error(f"--csv: there is no folder {given.csv.parent}")
    try:
        folders = sorted(run for folder in given.runs for run in below(folder) if completed(run))
        if not folders:
            parser.error(f"no completed run in {', '.join(map(str, given.runs))}")
        rows = [row for run in folders for row in wanted(run, sorted({0.0, *given.shares}), given.metric)]
        known = {same(row): row for row in read(given.csv)}
        for row in rows:
            if same(row) not in known:
                known[same(row)] = tested(row)
                append(given.csv, known[same(row)])
        print(table(known[same(row)] for row in rows))
    except (ConfigError, DataError, CheckpointError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
