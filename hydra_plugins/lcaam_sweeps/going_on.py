"""A sweep that goes on: with `sweep.skip_completed=true` any launcher gets only the cells that have no result yet.

The sweep's callback (tasks/common/sweep.py) puts this launcher around the chosen one. A job that starts later, on a
cluster perhaps, looks again (tasks/common/sweep_job.py).
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

if TYPE_CHECKING:
    from tasks.common.cells import Cell

log = logging.getLogger(__name__)


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
        values = self.look_up(cells, sweep) if self.config.sweep.skip_completed else [None] * len(cells)
        todo: list[Cell] = []
        for cell in cells:
            equal = [other for other in todo if cell.identity is not None and other.identity == cell.identity]
            if cell.folder is None and not equal:
                cell.number = initial_job_idx + len(todo)
                todo.append(cell)
        note_cells(sweep, cells)
        if len(todo) < len(cells):
            log.info(f"{len(cells)} jobs: {len(cells) - len(todo)} have a result already, {len(todo)} to run")
        done = self.launcher.launch([cell.overrides for cell in todo], initial_job_idx) if todo else []
        by_cell = {cell.identity or id(cell): result for cell, result in zip(todo, done, strict=True)}
        return [
            known(cell.overrides, value) if cell.folder is not None else by_cell[cell.identity or id(cell)]
            for cell, value in zip(cells, values, strict=True)
        ]

    def look_up(self, cells: list["Cell"], sweep: Path) -> list[float | None]:
        """Sets identity and folder of the cells whose results are there, and returns those results' objectives."""
        from tasks.common.files import write_json
        from tasks.common.known_runs import completed, identity_or_none, objective
        from tasks.common.results import settings_of
        from tasks.common.run_rows import RowsError, read_rows, record_of

        values = []
        try:
            files = {path: read_rows(Path(path)) for path in self.config.sweep.known}
            for cell in cells:
                cfg = self.composed(cell.overrides)
                cell.identity = identity_or_none(cfg)
                found = None if cell.identity is None else completed(cfg)
                if found is None and (source := next((p for p in files if cell.identity in files[p]), None)):
                    settings = settings_of(OmegaConf.to_container(cfg, resolve=True))
                    found = sweep / "known" / cell.identity, record_of(files[source][cell.identity], settings, source)
                    write_json(found[0] / "results.json", found[1])
                    cell.source = source
                if found is not None:
                    cell.folder = str(found[0].absolute())
                values.append(None if found is None else objective(found[1], cfg.optimized_metric))
        except RowsError as error:
            raise CompactHydraException(f"sweep.known: {error}") from error
        return values

    def composed(self, overrides: list[str]) -> DictConfig:
        """The configuration that a job would get, without a folder of its own."""
        cfg = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with read_write(cfg), open_dict(cfg):
            del cfg["hydra"]
            cfg.paths.run_dir = "none yet"
        return cfg


def known(overrides: list[str], value: float | None) -> JobReturn:
    done = JobReturn(overrides=overrides, status=JobStatus.COMPLETED)
    done.return_value = value
    return done
