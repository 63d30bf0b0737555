"""What the classes of a configuration's task and data answer to the questions of this command."""

import torch
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from configs.errors import ConfigError
from datamodules.stand_in import StandIn
from tasks.common.cost import CostHooks


def hooks_of(cfg: DictConfig) -> CostHooks:
    """Raises ConfigError for a task that has none."""
    hooks = get_object(cfg.task._target_).cost_hooks()
    if hooks is None:
        raise ConfigError(
            f"task._target_: {cfg.task._target_} has no costs to count; it needs a file cost.py with HOOKS"
        )
    return hooks


def is_generated(cfg: DictConfig) -> bool:
    """Whether the data are made by a generator of this project, so that real facts and batches can be had anywhere."""
    return cfg.data.get("mini") is not None


def stand_in_of(cfg: DictConfig) -> StandIn:
    """Raises ConfigError for a data module that has no stand-in."""
    found = get_object(cfg.data._target_).stand_in(OmegaConf.to_container(cfg.data, resolve=True))
    if found is None:
        raise ConfigError(f"data._target_: nothing takes the place of {cfg.data._target_}; it needs a file stand_in.py")
    return found


def batch_of(stand_in: StandIn, words: int) -> dict:
    """The stand-in's batch, the same numbers every time."""
    torch.manual_seed(0)
    return stand_in.batch(words)
