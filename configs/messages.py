"""What Hydra prints, as the user typed it: without the marks of configs/command_line.py and advice for programmers."""

import logging
import sys

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from configs.command_line import MARK, unmarked


class Unmarked(logging.Formatter):
    """For the lines that name a job's settings: `#0 : experiment=madv2_lcaam seed=0`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line without marks."""
        return super().format(record).replace(f" {MARK}", " ")


class PlainErrors(Callback):
    """For a job that failed: its settings as typed, and no stack trace where the message explains itself."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs) -> None:
        """Changes what Hydra prints of a failed job at the end. The job counts as failed as before."""
        job_return.overrides = unmarked(job_return.overrides or [])
        error = getattr(job_return, "_return_value", None)
        if isinstance(error, CompactHydraException):
            job_return.return_value = SystemExit(str(error))  # Hydra adds its advice to an Exception only


def explained(error: Exception) -> Exception:
    """What the entry point raises for an error that explains itself. A single run ends here, with the message alone."""
    if HydraConfig.get().mode == RunMode.RUN:
        sys.exit(str(error))
    return CompactHydraException(str(error))
