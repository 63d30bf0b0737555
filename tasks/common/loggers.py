"""Where metrics go: a plain CSV file, and Weights & Biases without ever asking for a key."""

import csv
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger, WandbLogger

from tasks.common.wandb_names import wandb_name
from tasks.common.wandb_runs import define_metrics, settings

if TYPE_CHECKING:
    from tasks.common.results import RunRecord
    from tasks.common.task import Task


def csv_logger(folder: str) -> CSVLogger:
    """Writes `metrics.csv` into `folder` itself, beside the run's other files."""
    return CSVLogger(save_dir=folder, name="", version="")


class NamedWandbLogger(WandbLogger):
    """Lightning's logger of W&B, with metric names that W&B can sort and filter by (wandb_names.py)."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        super().log_metrics({wandb_name(name): value for name, value in metrics.items()}, step)


def wandb_logger(
    folder: str,
    project: str,
    name: str | None,
    group: str | None,
    job_type: str,
    tags: list[str],
    entity: str | None = None,
    id: str | None = None,
) -> WandbLogger:
    """A W&B run whose files lie in `folder`/wandb; `wandb sync` uploads an offline one later.

    name, group, id: where the configuration leaves them out, build.py gives those of wandb_runs.names.
    id: the W&B run, which a resumed run continues; results.json has it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    mode = wandb_mode()
    if mode == "offline":  # otherwise W&B sends its own statistics to its server, offline or not
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    logger = NamedWandbLogger(
        save_dir=folder,
        project=project,
        name=name,
        group=group,
        job_type=job_type,
        tags=tags,
        entity=entity,
        id=id,
        resume="allow",  # a run of this id that is there already goes on
        mode=mode,
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


def log_settings(trainer: Trainer, record: "RunRecord", task: "Task | type[Task]") -> None:
    """Gives every logger the run's settings: nested to W&B, with the command as notes, and flat to others."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            if trainer.is_global_zero:
                run = logger.experiment
                define_metrics(run, task)
                logger.log_hyperparams(settings(record.config, record.fields))
                run.notes = record.fields["command"]
        elif not isinstance(logger, CSVLogger):  # its folder has config.yaml
            facts = {name: record.fields[name] for name in ("git", "command")}
            logger.log_hyperparams(flat(record.config | facts))


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"mask": {"depth": 3}}` -> `{"mask.depth": 3}`."""
    leaves = {}
    for key, value in tree.items():
        inner = isinstance(value, Mapping) and value
        leaves |= flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return leaves
