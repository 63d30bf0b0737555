"""Drops those of Lightning's remarks that a reader of a run's output does not need."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

WARNINGS = (  # about choices made on purpose, and about Lightning's own code
    ".*does not have many workers.*",
    ".*LeafSpec.* is deprecated.*",
    "Experiment logs directory .* exists and is not empty",
    "Checkpoint directory .* exists and is not empty",
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # scores and means add up over ranks by themselves
)
LIGHTNING = ("pytorch_lightning", "lightning_fabric")


def drop_remarks() -> None:
    """Leaves out the warnings above and the tips to install other products; real warnings stay."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric.utilities.rank_zero"):
        logging.getLogger(name).addFilter(_no_tip)


@contextmanager
def quiet() -> Iterator[None]:
    """Inside the block Lightning logs errors only: for a training inside another run."""
    loggers = [logging.getLogger(name) for name in LIGHTNING]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _no_tip(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()
