"""Where metrics go: a plain CSV file, and Weights & Biases without ever asking for a key."""

import csv
import netrc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger, WandbLogger


def csv_logger(folder: str) -> CSVLogger:
    """Writes `metrics.csv` into `folder` itself, beside the run's other files."""
    return CSVLogger(save_dir=folder, name="", version="")


def wandb_logger(
    folder: str,
    project: str,
    name: str,
    group: str,
    job_type: str,
    tags: list[str],
    entity: str | None = None,
    id: str | None = None,
) -> WandbLogger:
    """A W&B run whose files lie in `folder`/wandb; `wandb sync` uploads an offline one later.

    id: the W&B run that it is, which a resumed run continues; results.json has it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    logger = WandbLogger(
        save_dir=folder,
        project=project,
        name=name,
        group=group,
        job_type=job_type,
        tags=tags,
        entity=entity,
        id=id,
        resume="allow",  # a run of this id that is there already goes on
        mode=wandb_mode(),
        settings={"quiet": True},  # the closing table says it better
    )
    # Lightning hands over `anonymous`, which W&B has no use for and warns of whatever its value
    getattr(logger, "_wandb_init", {}).pop("anonymous", None)
    return logger


def wandb_mode() -> str:
    """The value of WANDB_MODE if it is set; otherwise online if this machine is logged in, offline if not."""
    return os.environ.get("WANDB_MODE") or ("online" if logged_in() else "offline")


def logged_in() -> bool:
    """Whether a W&B key is at hand: in the environment, or in the netrc file that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    files = [os.environ.get("NETRC"), Path.home() / ".netrc", Path.home() / "_netrc"]
    path = next((path for path in files if path and Path(path).is_file()), None)
    try:
        return path is not None and host in netrc.netrc(path).hosts
    except netrc.NetrcParseError:  # unreadable for W&B as well
        return False


def continue_csv(trainer: Trainer, run: Path, step: int) -> None:
    """Puts the rows that an earlier run logged up to `step` updates before this run's own in metrics.csv."""
    path = run / "metrics.csv"
    loggers = [logger for logger in trainer.loggers if isinstance(logger, CSVLogger)]
    if not loggers or not trainer.is_global_zero or not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if (row.get("step") or "").isdigit() and int(row["step"]) < step:
            values = {name: number(text) for name, text in row.items() if name and name != "step" and text}
            for logger in loggers:
                logger.log_metrics(values, int(row["step"]))


def number(text: str) -> float:
    """The number that a cell of metrics.csv holds; whole ones stay whole, so that it is written as it was."""
    return int(text) if text.lstrip("-").isdigit() else float(text)


def log_settings(trainer: Trainer, settings: Mapping[str, Any]) -> None:
    """Gives every logger the run's settings, flattened: `mask.depth`, `git.commit`, `command`."""
    for logger in trainer.loggers:
        if not isinstance(logger, CSVLogger):  # its folder has config.yaml
            logger.log_hyperparams(flat(settings))


def log_summary(trainer: Trainer, summary: Mapping[str, Any]) -> None:
    """Final figures that are not metrics of a step (floors, parameters, FLOPs), for W&B's table of runs."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.summary.update(flat(summary))


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"mask": {"depth": 3}}` -> `{"mask.depth": 3}`."""
    leaves = {}
    for key, value in tree.items():
        inner = isinstance(value, Mapping) and value
        leaves |= flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return leaves


@contextmanager
def wandb_closed() -> Iterator[None]:
    """Ends the W&B run that was started inside, as failed if an error was raised: one W&B run per job."""
    exit_code = 1
    try:
        yield
        exit_code = 0
    finally:
        wandb = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:
            wandb.finish(exit_code=exit_code)
