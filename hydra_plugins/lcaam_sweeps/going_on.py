"""A sweep that goes on: with `sweep.skip_completed=true` any launcher gets only the cells that have no result yet.

The sweep's callback (tasks/common/sweep.py) puts this launcher around the chosen one. A job that starts later, on a
cluster perhaps, looks again (tasks/common/sweep_job.py).
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

if TYPE_CHECKING:
    from tasks.common.cells import Cell


log = logging.getLogger(__name__)


class Result(NamedTuple):
    """What is known of a cell. An alias of tuple[...] would be taken for a plugin by Hydra on Python 3.10."""

    identity: str | None
    folder: str | None = None
    source: str | None = None  # the csv file that it is from
    objective: float | None = None
    floor: str | None = None  # the file of the floor that its run would have to train


class GoingOnLauncher(Launcher):
    """Passes jobs on to the launcher that `launcher`, a node of the configuration, describes."""

    def __init__(self, launcher: DictConfig) -> None:
        self.node = launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from tasks.common.sweep_job import SweepJob

        if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise CompactHydraException(
                "torchrun with several jobs: each process would run the whole sweep. Leave torchrun out: a job starts "
                "its own processes with trainer=ddp trainer.devices=<how many>"
            )
        self.hydra_context, self.config = hydra_context, config
        Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)  # a sweeper may keep its study beside it
        with read_write(config), open_dict(config):
            config.hydra.launcher = self.node
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=SweepJob(task_function), config=config
        )

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Notes the cells, runs those without a result, and returns what came of each, in their order."""
        from tasks.common.cells import Cell, note_cells

        sweep = Path(self.config.hydra.sweep.dir)
        cells = [Cell(list(overrides)) for overrides in job_overrides]
        found = self.look_up(cells, sweep) if self.config.sweep.skip_completed else [Result(None)] * len(cells)
        todo: list[Cell] = []
        for cell in cells:
            equal = [other for other in todo if cell.identity is not None and other.identity == cell.identity]
            if cell.folder is None and not equal:
                cell.number = initial_job_idx + len(todo)
                todo.append(cell)
        note_cells(sweep, cells)
        if len(todo) < len(cells):
            log.info(f"{len(cells)} jobs: {len(cells) - len(todo)} have a result already, {len(todo)} to run")
        floors = {result.floor: cell.overrides for cell, result in zip(cells, found, strict=True) if result.floor}
        if floors and getattr(self.launcher, "in_processes", False):
            self.launcher.floors = list(floors.values())
        done = self.launcher.launch([cell.overrides for cell in todo], initial_job_idx) if todo else []
        by_cell = {cell.identity or id(cell): result for cell, result in zip(todo, done, strict=True)}
        return [
            known(cell.overrides, result.objective) if cell.folder is not None else by_cell[cell.identity or id(cell)]
            for cell, result in zip(cells, found, strict=True)
        ]

    def look_up(self, cells: list["Cell"], sweep: Path) -> list[Result]:
        """Sets identity and folder of the cells whose results are there, and returns what is known of each cell.

        For jobs in processes of their own this one looks in such a process too, and is spared the imports.
        """
        from tasks.common.processes import run_all
        from tasks.common.run_rows import RowsError, read_rows

        try:
            files = {path: read_rows(Path(path)) for path in self.config.sweep.known}
            look = LookUp(self.hydra_context, self.config, Singleton.get_state(), files, sweep)
            todo = [cell.overrides for cell in cells]
            apart = getattr(self.launcher, "in_processes", False)
            (found,) = run_all(look, [todo], at_once=1) if apart else [look(todo)]
            if not isinstance(found, list):
                raise found if isinstance(found, RowsError) else CompactHydraException(f"looking for results: {found}")
        except RowsError as error:
            raise CompactHydraException(f"sweep.known: {error}") from error
        for cell, result in zip(cells, found, strict=True):
            cell.identity, cell.folder, cell.source = result.identity, result.folder, result.source
        return found


@dataclass
class LookUp:
    """Finds which cells have a result, in whichever process it is called. files: rows of csv files, by path."""

    hydra_context: HydraContext
    config: DictConfig
    singletons: dict[Any, Any]
    files: dict[str, dict[str, dict[str, str]]]
    sweep: Path

    def __call__(self, cells: list[list[str]]) -> list[Result] | Exception:
        """The cells' results, in their order; RowsError for a row that cannot be read."""
        from tasks.common.run_rows import RowsError

        setup_globals()
        Singleton.set_state(self.singletons)
        try:
            return [self.result(self.composed(overrides)) for overrides in cells]
        except RowsError as error:
            return error

    def result(self, cfg: DictConfig) -> Result:
        from tasks.common.known_runs import completed, identity_or_none, objective

        identity = identity_or_none(cfg)
        found, source = None if identity is None else completed(cfg), None
        if found is None and (source := next((path for path in self.files if identity in self.files[path]), None)):
            found = self.kept(cfg, identity, source)
        if found is None:
            return Result(identity, floor=floor_of(cfg) if identity else None)
        folder, record = found
        return Result(identity, str(folder.absolute()), source, objective(record, cfg.optimized_metric))

    def kept(self, cfg: DictConfig, identity: str, source: str) -> tuple[Path, dict[str, Any]]:
        """The record of a csv file's row, written where the table finds it."""
        from tasks.common.files import write_json
        from tasks.common.results import settings_of
        from tasks.common.run_rows import record_of

        folder = self.sweep / "known" / identity
        settings = settings_of(OmegaConf.to_container(cfg, resolve=True))
        record = record_of(self.files[source][identity], settings, source)
        write_json(folder / "results.json", record)
        return folder, record

    def composed(self, overrides: list[str]) -> DictConfig:
        """The configuration that a job would get, without a folder of its own."""
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with read_write(cfg), open_dict(cfg):
            del cfg["hydra"]
            cfg.paths.run_dir = "none yet"
        return cfg


def floor_of(cfg: DictConfig) -> str | None:
    """The file of the input-blind floor that a run would have to train; None if there is none."""
    if not cfg.floors.enabled:
        return None
    from tasks.common.floors import missing_floor

    path = missing_floor(cfg)
    return None if path is None else str(path)


def known(overrides: list[str], value: float | None) -> JobReturn:
    done = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    done.return_value = value
    return done
