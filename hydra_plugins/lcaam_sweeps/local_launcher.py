"""Jobs of a sweep on this machine, each in a process of its own: `hydra/launcher=local hydra.launcher.n_jobs=2`.

Hydra finds this folder because it stands beside train.py. A job that is killed, by hand or because memory was used up,
fails alone (tasks/common/processes.py).
"""

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job, setup_globals
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

log = logging.getLogger(__name__)


@dataclass
class LocalLauncherConf:
    """n_jobs: so many jobs at once; -1: one per core. jobs_per_process: so many short jobs share a process."""

    _target_: str = "hydra_plugins.lcaam_sweeps.local_launcher.LocalLauncher"
    n_jobs: int = -1
    jobs_per_process: int = 1


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalLauncherConf, provider="lcaam")


class JobDied(CompactHydraException):
    """A job that left no result. Hydra prints its message without a stack trace, which would be the launcher's."""


class LocalLauncher(Launcher):
    """Runs jobs in processes. Raises CompactHydraException for numbers that make no sense."""

    in_processes = True  # this process needs none of the libraries that a job imports

    def __init__(self, n_jobs: int = -1, jobs_per_process: int = 1) -> None:
        for name, number, least in (("n_jobs", n_jobs, -1), ("jobs_per_process", jobs_per_process, 1)):
            if number == 0 or number < least:
                allowed = "1 or more, or -1 for one per core" if least < 0 else "1 or more"
                raise CompactHydraException(f"hydra.launcher.{name}: {number} is out of range; allowed: {allowed}")
        self.n_jobs = n_jobs if n_jobs > 0 else cores()
        self.jobs_per_process = jobs_per_process
        self.floors: list[list[str]] = []  # overrides of a run for each input-blind floor that is to be made first

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """What Hydra asks of a launcher: runs all jobs and returns what came of each, in their order."""
        from tasks.common.cells import note_job
        from tasks.common.processes import Died, run_all

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        sweep = Path(self.config.hydra.sweep.dir)
        sweep.mkdir(parents=True, exist_ok=True)
        floors = [(None, overrides) for overrides in self.floors]
        n_jobs = min(self.n_jobs, len(job_overrides) + len(floors))
        first = f" after {len(floors)} input-blind floor{'s' * (len(floors) > 1)}" if floors else ""
        log.info(f"{len(job_overrides)} jobs{first}, {n_jobs} at once; notes in {sweep}")

        def told(index: int, result: Any) -> None:
            number, overrides = jobs[index]
            if isinstance(result, Died):
                name = "an input-blind floor" if number is None else f"job {number}"
                log.warning(f"{name} ({words(overrides)}): {result}")
                if number is not None:
                    note_job(sweep, number, error=str(result))

        job = Job(self.hydra_context, self.task_function, self.config, Singleton.get_state())
        numbered = [(initial_job_idx + index, list(overrides)) for index, overrides in enumerate(job_overrides)]
        jobs: list[tuple[int | None, list[str]]] = [*floors, *numbered]
        results = run_all(job, jobs, n_jobs, self.jobs_per_process, told)
        return [
            failed(overrides, JobDied(f"job {number}: {result}")) if isinstance(result, Died) else result
            for (number, overrides), result in zip(numbered, results[len(floors) :], strict=True)
        ]


@dataclass
class Job:
    """One job of the sweep, in whichever process it is called."""

    hydra_context: HydraContext
    task_function: TaskFunction
    config: DictConfig
    singletons: dict[Any, Any]

    def __call__(self, job: tuple[int | None, list[str]]) -> JobReturn | None:
        """job: its number and overrides; without a number only the floor of such a run is made, and None returned."""
        number, overrides = job
        setup_globals()
        Singleton.set_state(self.singletons)
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        if number is None:
            return make_floor(config)
        with open_dict(config):
            config.hydra.job.id = f"{config.hydra.job.name}_{number}"
            config.hydra.job.num = number
        HydraConfig.instance().set_config(config)
        done = run_job(
            hydra_context=self.hydra_context,
            task_function=self.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        return portable(done)


def make_floor(config: DictConfig) -> None:
    """Trains the input-blind floor of a run and keeps it, so that no job waits for another one that does.

    What explains itself is told here, and the jobs tell it again in their records; any other error ends this process
    with its trace, which fails no job.
    """
    from configs.errors import ConfigError
    from datamodules.errors import DataError
    from tasks.common.build import build_datamodule
    from tasks.common.errors import CheckpointError, NonFiniteLossError, StorageError
    from tasks.common.floors import blind_floor

    with read_write(config), open_dict(config):
        del config["hydra"]
        config.paths.run_dir = "none yet"
    try:
        blind_floor(config, build_datamodule(config))
    except (ConfigError, DataError, CheckpointError, NonFiniteLossError, StorageError) as error:
        log.warning(f"no input-blind floor of {config.name}: {type(error).__name__}: {error}")


def portable(done: JobReturn) -> JobReturn:
    """`done` as another process can read it. Its error is printed here: Hydra shows that of the first job alone."""
    try:
        _ = done.return_value
    except (CompactHydraException, SystemExit) as error:  # SystemExit: configs/messages.py, for the same
        print(error, file=sys.stderr)
        return failed(done.overrides or [], CompactHydraException(str(error)))
    except Exception as error:  # whatever ends a job: its trace is printed, and the sweep names its cell as failed
        traceback.print_exc()
        return failed(done.overrides or [], JobDied(f"{type(error).__name__}: {error}"))
    return done


def failed(overrides: Sequence[str], error: Exception) -> JobReturn:
    done = JobReturn(overrides=list(overrides), status=JobStatus.FAILED)
    done.return_value = error
    return done


def words(overrides: Sequence[str]) -> str:
    return " ".join(filter_overrides(overrides))


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
