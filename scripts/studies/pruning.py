"""Does a mask prune redundant connections? Scores of trained runs without the k % of the keys that count least.

    python -m scripts.studies.pruning logs/madv2_baseline/mini logs/madv2_multi_lcaam/mini --csv pruning.csv
    python -m scripts.studies.pruning RUNS ... --csv pruning.csv --shares 0 0.25 0.5 --metric exact

RUNS are run folders, or folders in which they lie. Every completed run is tested with each share of its keys dropped,
in every sample and layer: those with the lowest mean attention weight, and for runs with masks also those with the
lowest mean mask value (docs/ladder.md#pruned-keys). The table has the mean score of each setting over its seeds, and
what it has lost since share 0 beyond what plain attention lost there, paired by seed. A row of the csv is a test; the
command goes on with a csv that has some.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from omegaconf import OmegaConf

from configs.contradictions import owner
from configs.errors import ConfigError, nearest
from configs.saved import load
from configs.words import setting_name
from datamodules.errors import DataError
from datamodules.formats.json_text import read_json
from eval import run_words
from scripts.arguments import parser_for
from scripts.records import Records
from scripts.sweep_runs import below
from scripts.sweep_runs import read as record_of
from scripts.table.markdown import markdown
from scripts.table.statistics import paired
from scripts.table.words import difference
from tasks.common.errors import CheckpointError

SHARES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Cell:
    """A test. masked: 1 for a run with masks. by: mask | attention, whose values say which keys count least."""

    run: str
    setting: str
    masked: int
    seed: int
    by: str
    share: float
    metric: str


@dataclass(frozen=True)
class Tested(Cell):
    """A line of the csv."""

    value: float

    @property
    def cell(self) -> Cell:
        return Cell(*(getattr(self, field.name) for field in fields(Cell)))


def completed(run: Path) -> bool:
    """Raises ConfigError for a results.json that is not the record of a run."""
    try:
        return record_of(run / "results.json").get("status") == "completed"
    except ValueError as error:
        raise ConfigError(str(error)) from error


def wanted(run: Path, shares: Sequence[float], metric: str | None) -> list[Cell]:
    """The tests of a run. Raises ConfigError for a folder that is none, or an unknown metric."""
    cfg = load(run / "config.yaml")
    masked = cfg.mask.scope != "none" and cfg.mask.control == "none"
    plain = OmegaConf.to_container(cfg)
    known = owner(plain, "task").named(plain["task"]).headline
    metric = metric or cfg.primary.metric
    if metric not in known:
        raise ConfigError(f"--metric: {metric} is not a metric of {run}{nearest(metric, known)} ({', '.join(known)})")
    criteria = ("attention", "mask") if masked else ("attention",)
    named = (str(run), setting_name(cfg), int(masked), int(cfg.seed))
    return [Cell(*named, by, share, metric) for by in criteria for share in shares]


def tested(cell: Cell) -> Tested:
    """The test's score."""
    folder = Path(cell.run) / "eval" / f"pruned_{cell.by}_{cell.share:g}"
    words = [f"run={cell.run}", "intervention=pruned", f"prune={cell.share:g}", f"prune_by={cell.by}"]
    output = run_words([*words, f"output={folder}"])
    return Tested(**asdict(cell), value=float(read_json(output / "metrics.json")[cell.metric]))


def table(rows: Iterable[Tested]) -> str:
    """A line per setting, criterion and share. Losses are paired with those of the one setting without masks."""
    values: dict[tuple[int, str, str, float], dict[int, float]] = {}
    for row in rows:
        values.setdefault((row.masked, row.setting, row.by, row.share), {})[row.seed] = row.value
    plain = {key[1] for key in values if not key[0]}
    lines = []
    for masked, setting, by, share in sorted(values):
        mine = values[masked, setting, by, share]
        mean = sum(mine.values()) / len(mine)
        lines.append([setting, by, f"{100 * share:g} %", str(len(mine)), f"{mean:.2f}", ""])
        if not masked or len(plain) != 1 or share == 0:
            continue
        (other,) = plain
        four = [mine, values.get((masked, setting, by, 0.0), {})]
        four += [values.get((0, other, "attention", one), {}) for one in (share, 0.0)]
        if seeds := sorted(set.intersection(*map(set, four))):
            lost = [[one[seed] - own[seed] for seed in seeds] for one, own in (four[:2], four[2:])]
            found = paired(*lost)
            lines[-1][-1] = f"{difference(found.mean, found.interval)}, n = {found.n}"
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
        cells = [cell for run in folders for cell in wanted(run, sorted({0.0, *given.shares}), given.metric)]
        known = Records(given.csv, Tested)
        for cell in cells:
            if known.find(cell) is None:
                known.add(tested(cell))
        print(table(known.found[cell] for cell in cells))
    except (ConfigError, DataError, CheckpointError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
