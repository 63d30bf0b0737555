"""What a job of a sweep does around its run: looks whether the result is there by now, or an unfinished run to go on.

Meant for the processes of a job as Hydra starts them; the ranks that Lightning starts beside it are single runs.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import TaskFunction
from omegaconf import DictConfig, open_dict, read_write


@dataclass
class SweepJob:
    """A task function that runs only what is missing. Sent to jobs' processes as it is."""

    task: TaskFunction

    def __call__(self, cfg: DictConfig) -> Any:
        if not cfg.sweep.skip_completed:
            return self.run(cfg)

        from tasks.common.known_runs import identity_or_none

        return self.run(cfg) if identity_or_none(cfg) is None else self.run_once(cfg)

    def run_once(self, cfg: DictConfig) -> Any:
        """Runs the configuration unless another process has by now; goes on with a run that was interrupted."""
        from tasks.common.cells import note_job
        from tasks.common.known_runs import completed, held, objective, unfinished

        if several_tasks():  # they have to agree without talking to each other
            return self.run(going_on(cfg, unfinished(cfg)))
        with held(cfg):
            if (found := completed(cfg)) is None:
                return self.run(going_on(cfg, unfinished(cfg)))
        hydra = HydraConfig.get()
        note_job(Path(hydra.sweep.dir), hydra.job.num, folder=str(found[0].absolute()))
        return objective(found[1], cfg.optimized_metric)

    def run(self, cfg: DictConfig) -> Any:
        with as_single_run(cfg):
            return self.task(cfg)


def several_tasks() -> bool:
    """Whether a cluster started this very job several times, once for each rank."""
    return int(os.environ.get("SLURM_NTASKS", 1)) > 1


def going_on(cfg: DictConfig, checkpoint: Path | None) -> DictConfig:
    """The configuration, told to go on from a checkpoint unless it names one itself."""
    if checkpoint is not None and cfg.resume is None:
        with read_write(cfg), open_dict(cfg):
            cfg.resume = str(checkpoint)
    return cfg


@contextmanager
def as_single_run(cfg: DictConfig) -> Iterator[None]:
    """The job's own command line in place of the sweep's, and its folder as the run's.

    With several ranks, Lightning starts the command line again for each of the others: they must not start the sweep
    again, and they write where the first one writes.
    """
    hydra, before = HydraConfig.get(), sys.argv
    overrides = [word for word in hydra.overrides.task if not word.startswith(("sweep=", "++resume=", "resume="))]
    resume = "null" if cfg.resume is None else "'" + str(cfg.resume).replace("\\", "\\\\").replace("'", "\\'") + "'"
    with read_write(hydra), open_dict(hydra):
        hydra.run.dir = hydra.runtime.output_dir
    sys.argv = [before[0], *overrides, f"++resume={resume}"]
    try:
        yield
    finally:
        sys.argv = before
