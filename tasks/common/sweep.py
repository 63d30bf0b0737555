"""After a multirun: the table of its runs (`python -m scripts.report`), in the multirun's folder and on the screen."""

import atexit
import contextlib
import io
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from configs.resolvers import ROOT
from tasks.common.cells import CELLS, note_job

log = logging.getLogger(__name__)

TABLE = "table.md"
GOING_ON = "hydra_plugins.lcaam_sweeps.going_on.GoingOnLauncher"


class SweepTable(Callback):
    """Notes what every job does, in whichever process it runs, and makes the table when all are done."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Puts GoingOnLauncher around the chosen launcher.

        The table is made at the program's end if a job fails: Hydra then does not call `on_multirun_end`.
        """
        with read_write(config), open_dict(config):
            launcher = {"_target_": GOING_ON, "_recursive_": False, "launcher": config.hydra.launcher}
            config.hydra.launcher = launcher
        if first_rank():
            atexit.register(make_table, Path(config.hydra.sweep.dir), whole_table(config))

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Notes the job's folder and process. A single run notes nothing."""
        if is_job(config):
            facts = {"folder": config.hydra.runtime.output_dir, "process": os.getpid()}
            note_job(Path(config.hydra.sweep.dir), config.hydra.job.num, **facts)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Notes why a job failed."""
        if is_job(config) and job_return.status == JobStatus.FAILED:
            note_job(Path(config.hydra.sweep.dir), config.hydra.job.num, error=reason(job_return))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes the table."""
        if first_rank():
            atexit.unregister(make_table)
            make_table(Path(config.hydra.sweep.dir), whole_table(config))


def is_job(config: DictConfig) -> bool:
    """Whether this is the first rank of a multirun's job."""
    return config.hydra.mode.name == "MULTIRUN" and first_rank()


def first_rank() -> bool:
    """Whether no other process of the same run writes what this one would."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def reason(done: JobReturn) -> str:
    """The error of a failed job, in one line."""
    with contextlib.redirect_stderr(io.StringIO()):  # Hydra prints that there is an error whenever it is asked for
        try:
            _ = done.return_value
        except (Exception, SystemExit) as error:  # SystemExit: configs/messages.py, for what explains itself
            explains_itself = isinstance(error, (CompactHydraException, SystemExit))
            return str(error) if explains_itself else f"{type(error).__name__}: {error}"
    return ""


def whole_table(config: DictConfig) -> str:
    """The command that compares the rows of a sweep which says how; empty for others."""
    if config.get("table") is None:
        return ""
    return f"python -m scripts.table {config.hydra.runtime.choices.sweep} --scale {config.scale_name}"


def make_table(folder: Path, compared_by: str = "") -> None:
    """Makes the table of a multirun's folder, and its line about what is missing, and names the command for more."""
    if not (folder / CELLS).is_file():
        return
    command = [sys.executable, "-m", "scripts.report", "--sweep", str(folder.absolute())]
    command += ["--out", str(folder.absolute() / TABLE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        log.warning("no table of this multirun: %s", done.stderr.strip())
    else:
        more = f"compared, with tests: {compared_by}\n" if compared_by else ""
        log.info("%s%s\n%s%s", done.stderr, folder / TABLE, done.stdout, more)
