"""From a validated configuration to objects.

The parts get plain Python values (dict, list, str, ...), never OmegaConf's, so that what a module saves of them in its
checkpoint loads again with `weights_only=True`.
"""

from typing import Any

from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger

from configs.errors import ConfigError
from datamodules.contract import Data
from tasks.common import ddp
from tasks.common.checkpoint_files import CheckpointFiles
from tasks.common.remarks import drop_remarks
from tasks.common.results import WANDB
from tasks.common.task import Task


def build(node: DictConfig, **keywords: Any) -> Any:
    """Calls a node's `_target_` with its own keys and with `keywords`, which do not pass through OmegaConf."""
    return instantiate(node, _partial_=True, _convert_="all")(**keywords)


def build_all(nodes: DictConfig | None) -> list[Any]:
    """The objects of a group of nodes (callbacks, loggers); a node set to null is left out."""
    return [instantiate(node, _convert_="all") for node in (nodes or {}).values() if node is not None]


def derived(cfg: DictConfig, node: str, base: type) -> DictConfig:
    """The node, whose `_target_` must be a class that keeps the contract of `base`. Raises ConfigError if it is not."""
    found = get_object(cfg[node]._target_)
    if not (isinstance(found, type) and issubclass(found, base)):
        where = base.__module__.replace(".", "/") + ".py"
        raise ConfigError(f"{node}._target_: {cfg[node]._target_} is not derived from {base.__name__} ({where})")
    return cfg[node]


def build_datamodule(cfg: DictConfig) -> Data:
    """The data module, with its files found (or generated) and checked. Raises DataError for missing or bad data."""
    datamodule = build(derived(cfg, "data", Data))
    datamodule.prepare_data()
    return datamodule


def build_module(cfg: DictConfig, datamodule: Data) -> Task:
    """The task's module, with its mask settings and the facts of the data (widths, vocabulary, ...)."""
    return build(
        derived(cfg, "task", Task), mask=OmegaConf.to_container(cfg.mask, resolve=True), facts=datamodule.facts()
    )


def build_trainer(cfg: DictConfig, *more: Callback, wandb: str | None = None) -> Trainer:
    """Lightning's Trainer with the configured callbacks and loggers.

    more: callbacks before them. wandb: the id of the W&B run.
    """
    drop_remarks()
    ddp.register()
    callbacks: list[Callback] = [*more, *build_all(cfg.callbacks)]
    loggers: list[Logger] = build_loggers(cfg.logger, wandb)
    trainer = build(cfg.trainer, callbacks=callbacks, logger=loggers or False)
    trainer.strategy.checkpoint_io = CheckpointFiles()
    return trainer


def build_loggers(nodes: DictConfig | None, wandb: str | None) -> list[Logger]:
    """The loggers of a group of nodes; W&B's gets the id of its run."""
    given = [node for node in (nodes or {}).values() if node is not None]
    return [
        instantiate(node, _convert_="all", **({"id": wandb} if node.get("_target_") == WANDB else {})) for node in given
    ]
