"""What a sweep's YAML asks for: its rows, each with its seeds and its configuration, as the sweep itself composes it.

rows = expected_rows("table1a", ["scale=mini", "seed=0,1"])
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.arguments import choices_of, prepared
from configs.command_line import MARK, unmarked
from configs.composing import composed
from configs.errors import ConfigError, listed, nearest
from configs.resolvers import ROOT
from configs.sweeping import SEED, cells, sweeper_of
from scripts.table.labels import labels_of

# settings that leave the paper's figures comparable
BESIDE = ("callbacks", "data.num_workers", "floors.", "hydra", "logger", "paths.", "scale", SEED, "sweep", "table.")
# what would give a sweep other rows than its file
SWEEPER = ("hydra.sweeper", "hydra/sweeper")


@dataclass
class Expected:
    """A row to be. cfg: its configuration with its first seed. as_shipped: nothing was changed that counts. steps: of a
    row of shorter runs, which `table.budgets` asks for."""

    label: str
    overrides: list[str]
    seeds: list[int]
    cfg: DictConfig
    as_shipped: bool
    steps: int | None = None

    @contextmanager
    def at(self, seed: int) -> Iterator[DictConfig]:
        """The configuration with another seed; what interpolates the seed follows."""
        before = self.cfg.seed
        self.cfg.seed = seed
        try:
            yield self.cfg
        finally:
            self.cfg.seed = before

    @property
    def task(self) -> str:
        """The name of the task's folder in tasks/; of a class from elsewhere its own."""
        parts = str(self.cfg.task["_target_"]).split(".")
        return parts[1] if parts[0] == "tasks" and len(parts) > 2 else parts[-1]


def expected_rows(name: str, arguments: Sequence[str]) -> list[Expected]:
    """The rows of configs/sweep/<name>.yaml with a command line's settings, in the sweep's order.

    Raises ConfigError: no such sweep, no table in it, other rows than its own, settings that make no sense.
    """
    check_name(name)
    given = [word for word in prepared([f"sweep={name}", *arguments]) if key_of(word) != "sweep"]
    if other := next((word for word in given if word.lstrip("+~").startswith(SWEEPER)), None):
        raise ConfigError(
            f"{other}: the rows of a table are those of configs/sweep/{name}.yaml; values of its keys leave some of "
            "them out or add others (mask=lcaam,table), and other rows beside the product are a sweep of their own"
        )
    settings = [word for word in given if not word.startswith("hydra")]
    sweeper = sweeper_of(name)
    seeds: dict[tuple[str, ...], list[int]] = {}
    for cell in cells(sweeper["params"], sweeper["also"], settings):
        row = tuple(word for word in cell if key_of(word) != SEED)
        own = [int(word.partition("=")[2]) for word in cell if key_of(word) == SEED]
        seeds[row] = list(dict.fromkeys([*seeds.get(row, []), *own]))
    swept = {key for node in (sweeper["params"], *sweeper["also"]) for key in node}
    varied = {word for row in seeds for word in row if not all(word in other for other in seeds)}
    as_shipped = all(key_of(word) in swept or key_of(word).startswith(BESIDE) for word in settings)
    rows = []
    for row, numbers in seeds.items():
        cfg = of_row(name, [*row, *(f"{SEED}={seed}" for seed in numbers[:1])])
        own = unmarked([word for word in row if key_of(word) in swept or word in varied])
        rows.append(Expected("", own, numbers or [cfg.seed], cfg, as_shipped))
    for task in dict.fromkeys(one.task for one in rows):
        mine = [one for one in rows if one.task == task]
        for one, label in zip(mine, labels_of([row.overrides for row in mine], mine[0].cfg.table.labels), strict=True):
            one.label = label
    return [*rows, *shorter(name, rows, list(seeds))]


def shorter(name: str, rows: Sequence[Expected], words: Sequence[Sequence[str]]) -> list[Expected]:
    """What `table.budgets` asks for: for each share of the steps, every row again with runs that are as long.

    words: the overrides of each row, without its seeds. Raises ConfigError for runs that have no length in steps,
    another schedule than wsd, or several lengths, which would not be one sweep.
    """
    found = []
    for share in rows[0].cfg.table.budgets:
        changes = shortened(rows[0].cfg, share)
        if any(shortened(one.cfg, share) != changes for one in rows):
            raise ConfigError("table.budgets: the rows of the sweep are not all of one length and warm-up")
        for one, row in zip(rows, words, strict=True):
            cfg = of_row(name, [*row, *changes, f"{SEED}={one.seeds[0]}"])
            steps = int(cfg.trainer.max_steps)
            label = f"{one.label}, {steps:,} steps"
            found.append(Expected(label, [*one.overrides, *changes], one.seeds, cfg, False, steps))
    return found


def shortened(cfg: DictConfig, share: float) -> list[str]:
    """The overrides that make a run a share as long: as many steps of warm-up, and a start from the longer run."""
    steps, schedule = cfg.trainer.get("max_steps"), cfg.task.get("schedule")
    if not steps or steps < 0 or schedule != "wsd":
        raise ConfigError(
            f"table.budgets: needs task.schedule=wsd and trainer.max_steps, got schedule {schedule}, max_steps {steps}"
        )
    return [f"trainer.max_steps={round(share * steps)}", f"task.warmup={cfg.task.warmup / share:g}"]


def check_name(name: str) -> None:
    """ConfigError unless there is a sweep of that name and it has a table."""
    nodes = {one: OmegaConf.load(ROOT / "configs" / "sweep" / f"{one}.yaml") for one in choices_of("sweep")}
    tables = [one for one, node in nodes.items() if node.get("table") is not None]
    if name not in nodes:
        raise ConfigError(f"{name!r} is not a sweep{nearest(name, tables)} (those with a table: {listed(tables)})")
    if name not in tables:
        raise ConfigError(f"configs/sweep/{name}.yaml has no `table:` (those with a table: {listed(tables)})")


def of_row(name: str, words: Sequence[str]) -> DictConfig:
    """The configuration of a cell, with all fields of its table. What Hydra says about it becomes one ConfigError."""
    try:
        cfg = composed(f"sweep={name}", *words)
        cfg.paths.run_dir = "none yet"
        defaults = {"labels": {}, "metrics": [], "contrasts": [], "failed_below": {}, "published": {}, "figure": None}
        defaults |= {"interventions": [], "budgets": []}
        cfg.table = OmegaConf.merge({**defaults, "primary": None, "margin": None, "data_sets": None}, cfg.table)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"sweep={name}, row {' '.join(unmarked(words))}: {str(error).splitlines()[0]}") from error
    return cfg


def key_of(word: str) -> str:
    return word.removeprefix(MARK).partition("=")[0]
