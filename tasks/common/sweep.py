"""After a multirun: the table of its runs (`python -m scripts.report`), in the multirun's folder and on the screen."""

import atexit
import logging
import subprocess
import sys
from pathlib import Path

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from configs.resolvers import ROOT

log = logging.getLogger(__name__)

RUNS = "runs.txt"  # in the multirun's folder: the folder of every job, one per line
TABLE = "table.md"


class SweepTable(Callback):
    """Notes the folder of every job, in whichever process it ran, and makes the table when all are done."""

    def on_multirun_start(self, config: DictConfig, **kwargs) -> None:
        """Makes the table at the program's end if a job fails: Hydra then does not call `on_multirun_end`."""
        atexit.register(make_table, Path(config.hydra.sweep.dir))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs) -> None:
        """Appends the job's folder, as a line that does not mix with other jobs' lines. A single run notes nothing."""
        if config.hydra.mode.name != "MULTIRUN":
            return
        notes = Path(config.hydra.sweep.dir) / RUNS
        notes.parent.mkdir(parents=True, exist_ok=True)
        with notes.open("a", encoding="utf-8") as file:
            file.write(f"{config.hydra.runtime.output_dir}\n")

    def on_multirun_end(self, config: DictConfig, **kwargs) -> None:
        """Writes the table."""
        atexit.unregister(make_table)
        make_table(Path(config.hydra.sweep.dir))


def make_table(folder: Path) -> None:
    """Makes the table of the jobs noted in a multirun's folder. A sweep has none if all its runs failed, or if they
    still wait on a cluster."""
    notes = folder / RUNS
    if not notes.is_file():
        return
    folders = notes.read_text(encoding="utf-8").splitlines()
    command = [sys.executable, "-m", "scripts.report", *folders, "--out", str(folder.absolute() / TABLE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        log.warning("no table of this multirun: %s", done.stderr.strip())
    else:
        log.info("%s%s\n%s", done.stderr, folder / TABLE, done.stdout)
