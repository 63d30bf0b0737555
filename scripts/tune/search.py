"""The runs of a search: which there are to be, what came of them, and the sweep that runs those that are missing."""

import math
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from configs.composing import composed
from configs.identity import identity
from configs.resolvers import ROOT
from scripts.records import Records

BASELINE = "none"
UNTUNED = ("~tuned@_global_", "~tuned/data@_global_")  # overrides that leave out what searches have written
RESULTS = ROOT / "docs" / "results"
QUIET = ("data.seed=0", "floors.enabled=false", "callbacks.figures=null", "logger=csv", "test_checkpoint=last")


@dataclass(frozen=True)
class Search:
    """What is searched. task: its folder's name, or a data set with a recipe of its own (`recipe_of`). base: the
    scale's learning rate. metric: what counts; lowest: whether less is better. max_steps: None for the scale's.
    further: overrides of every run."""

    experiment: str
    task: str
    scale: str
    factors: tuple[float, ...]
    seeds: tuple[int, ...]
    metric: str
    lowest: bool
    base: float
    max_steps: int | None
    further: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Where the files of what was found lie, below configs/."""
        of_data = recipe_of(self.task, self.scale).parent.parent.name == "data"
        return f"tuned/data/{self.scale}/{self.task}" if of_data else f"tuned/{self.scale}/{self.task}"

    @property
    def page(self) -> Path:
        return RESULTS / f"tuned_{self.task}_{self.scale}.md"

    @property
    def values(self) -> Path:
        """The values of the search's runs. They outlive the run folders, so that a search can go on elsewhere."""
        return self.page.with_suffix(".csv")

    def fixed(self) -> list[str]:
        """The overrides that all runs have in common."""
        length = [] if self.max_steps is None else [f"trainer.max_steps={self.max_steps}"]
        first = [f"experiment={self.experiment}_baseline", f"scale={self.scale}", *QUIET, *length]
        return [*first, f"optimized_metric={self.metric}", *self.further]


@dataclass
class Row:
    """The runs of one mask. mask: a file of configs/mask/, if need be with another fusion than its own ("table:add").
    rate: the baseline's; the one itself for the baseline. fusion: that of the runs, once they are read."""

    mask: str
    rate: float
    values: dict[float, list[float | None]] = field(default_factory=dict)  # by factor, a value per seed
    fusion: str = ""

    @property
    def choice(self) -> list[str]:
        """The overrides that choose the mask."""
        mask, _, fusion = self.mask.partition(":")
        return [f"mask={mask}", *([f"mask.fusion={fusion}"] if fusion else [])]

    def overrides(self, factor: float) -> list[str]:
        if self.mask == BASELINE:
            return [*self.choice, f"task.lr={rounded(self.rate * factor):g}"]
        return [*self.choice, f"task.lr={self.rate:g}", f"mask.lr_scale={factor:g}"]

    def missing(self) -> int:
        return sum(value is None for values in self.values.values() for value in values)

    def best(self, lowest: bool) -> float:
        """The factor with the best mean; of equal ones that next to 1."""
        sign = 1 if lowest else -1

        def worth(factor: float) -> tuple[float, float]:
            return sign * mean(self.values[factor]), abs(math.log(factor))

        return min(self.values, key=worth)


def rounded(rate: float) -> float:
    return float(f"{rate:.6g}")


def mean(values: Sequence[float | None]) -> float:
    """The mean of a factor's values, which are all there."""
    return sum(value for value in values if value is not None) / len(values)


@dataclass(frozen=True)
class Value:
    """What came of one run: a line of the search's csv file. factor: on `task.lr` for the baseline, `mask.lr_scale`
    for a mask. value: None if the run diverged."""

    mask: str
    lr: float
    factor: float
    seed: int
    metric: str
    value: float | None
    identity: str
    commit: str

    @property
    def cell(self) -> tuple[str, str]:
        return self.identity, self.metric


def read(search: Search, row: Row, keep: bool = False) -> Row:
    """Fills the row with the values of runs that exist; a run that is missing is None, one that failed the worst.

    keep: whether values that the search's csv file does not have yet are added to it.
    """
    worst = math.inf if search.lowest else -math.inf
    known = Records(search.values, Value)
    for factor in search.factors:
        row.values[factor] = []
        for seed in search.seeds:
            cfg = composed(*search.fixed(), *row.overrides(factor), f"seed={seed}")
            row.fusion, cell = cfg.mask.fusion, (identity(cfg), search.metric)
            if (found := known.find(cell)) is None and (record := ended(cfg)) is not None:
                value = (record.get("optimized") or {}).get(search.metric)
                value = None if value is None or not math.isfinite(value) else value
                lr = rounded(row.rate * factor) if row.mask == BASELINE else row.rate
                commit = (record.get("git") or {}).get("commit") or ""
                found = Value(row.mask, lr, factor, seed, search.metric, value, cell[0], commit)
                if keep:
                    known.add(found)
            row.values[factor].append(None if found is None else worst if found.value is None else found.value)
    return row


def ended(cfg: DictConfig) -> dict[str, Any] | None:
    """The record of a completed run with these settings, else of one that diverged, or None."""
    from tasks.common.known_runs import DIVERGED, completed, runs

    if (found := completed(cfg)) is not None:
        return found[1]
    return next((record for _, record in runs(cfg) if (record.get("error") or {}).get("type") == DIVERGED), None)


def known_masks(search: Search) -> list[str]:
    """The masks, without the baseline, of which the csv file has values."""
    return list(dict.fromkeys(v.mask for v in Records(search.values, Value).found.values() if v.mask != BASELINE))


def run(search: Search, rows: Sequence[Row]) -> None:
    """Runs what is missing of the rows, all of the baseline's rate or all of the masks': a sweep per fusion."""
    by_fusion: dict[str, list[Row]] = {}
    for row in rows:
        by_fusion.setdefault(row.mask.partition(":")[2], []).append(row)
    for some in by_fusion.values():
        call(search, some)


def call(search: Search, rows: Sequence[Row]) -> None:
    """One sweep, of rows that have their fusion in common."""
    rate, fusion = rows[0].rate, rows[0].choice[1:]
    masks = "mask=" + ",".join(row.mask.partition(":")[0] for row in rows)
    if rows[0].mask == BASELINE:
        rates = ",".join(f"{rounded(rate * factor):g}" for factor in search.factors)
        swept = [masks, f"task.lr={rates}"]
    else:
        factors = ",".join(f"{factor:g}" for factor in search.factors)
        swept = [masks, *fusion, f"task.lr={rate:g}", f"mask.lr_scale={factors}"]
    seeds = "seed=" + ",".join(map(str, search.seeds))
    command = [sys.executable, "train.py", "-m", *search.fixed(), *swept, seeds]
    command += ["sweep.skip_completed=true", "hydra/launcher=local"]
    print(shlex.join(["python", *command[1:]]), flush=True)
    subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)


def base_of(experiment: str, scale: str, further: Sequence[str] = ()) -> tuple[str, float, int]:
    """The task's folder, or the data set's name if that has a file of its own for the scale; the learning rate and the
    steps, without what was tuned, so that a search that has ended begins where it began."""
    cfg = composed(f"experiment={experiment}_baseline", f"scale={scale}", *UNTUNED, *further)
    task, data = cfg.task._target_.split(".")[1], data_of(experiment, further)
    return data if recipe_of(data, scale).is_file() else task, float(cfg.task.lr), int(cfg.trainer.max_steps)


def data_of(experiment: str, further: Sequence[str]) -> str:
    """The choice of data: that of the further overrides, else the experiment's."""
    note = OmegaConf.load(ROOT / "configs" / "experiment" / f"{experiment}_baseline.yaml")
    chosen = [entry["override /data"] for entry in note.defaults if "override /data" in entry]
    chosen += [word.removeprefix("data=") for word in further if word.startswith("data=")]
    return chosen[-1]


def recipe_of(place: str, scale: str) -> Path:
    """The file that says what a scale means for a task or for a data set."""
    task = ROOT / "configs" / "scale" / scale / f"{place}.yaml"
    return task if task.is_file() else ROOT / "configs" / "scale" / "data" / scale / f"{place}.yaml"
