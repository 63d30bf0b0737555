"""A trained run of one task, for the commands that show what its model does."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import LightningModule

from configs.errors import ConfigError
from configs.saved import check, open_run
from tasks.common.checkpoints import find_checkpoint


def opened(
    run: str | Path, kind: type[LightningModule], what: str, changes: Sequence[str] = (), weights: str | None = None
) -> tuple[DictConfig, Path, set[str]]:
    """The run's settings, its checkpoint, and the keys that `changes` changed.

    run: its folder, or a checkpoint in it. kind: the class of its task; what: the task in words. weights: last | best;
    None: those that the run tested.
    Raises ConfigError: no run, or one of another task. CheckpointError: there are no such weights.
    """
    if not Path(run).exists():
        raise ConfigError(f"{run}: there is no such run's folder or checkpoint")
    _, cfg, changed = open_run(OmegaConf.create({"run": "???"}), [f"run={run}", *changes])
    target = cfg.task.get("_target_")
    if target != f"{kind.__module__}.{kind.__qualname__}":
        raise ConfigError(f"{run}: a run of {target}, not of {what}")
    check(cfg)
    path = Path(run)
    return cfg, find_checkpoint(path, weights or cfg.test_checkpoint) if path.is_dir() else path, changed
