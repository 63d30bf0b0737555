"""From a validated configuration to objects.

The parts get plain Python values (dict, list, str, ...), never OmegaConf's, so that what a module saves of them in its
checkpoint loads again with `weights_only=True`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from configs.errors import ConfigError
from datamodules.contract import Data
from tasks.common import ddp
from tasks.common.checkpoint_files import CheckpointFiles
from tasks.common.remarks import drop_remarks
from tasks.common.task import Task
from tasks.common.wandb_runs import is_wandb

GPUS = {"gpu": (CUDAAccelerator, MPSAccelerator), "cuda": (CUDAAccelerator,), "mps": (MPSAccelerator,)}


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


def build_datamodule(cfg: DictConfig, trained: Mapping[str, Any] | None = None) -> Data:
    """The data module, with its files found (or generated) and checked. Raises DataError for missing or bad data.

    trained: the facts of the weights that are to be tested (Data.only_test).
    """
    datamodule = build(derived(cfg, "data", Data))
    if trained is not None:
        datamodule.only_test(trained)
    datamodule.prepare_data()
    return datamodule


def build_module(cfg: DictConfig, datamodule: Data) -> Task:
    """The task's module, with its mask settings and the facts of the data (widths, vocabulary, ...)."""
    return build(
        derived(cfg, "task", Task), mask=OmegaConf.to_container(cfg.mask, resolve=True), facts=datamodule.facts()
    )


def build_trainer(cfg: DictConfig, *more: Callback, wandb: Mapping[str, str] | None = None) -> Trainer:
    """Lightning's Trainer with the configured callbacks and loggers. Raises ConfigError for what it refuses.

    A progress bar is one of the callbacks: without one there is none, and trainer.enable_progress_bar=false drops it.
    more: callbacks before them. wandb: id, group and name of the W&B run.
    """
    drop_remarks()
    ddp.register()
    callbacks: list[Callback] = [*more, *build_all(cfg.callbacks)]
    loggers: list[Logger] = build_loggers(cfg.logger, wandb or {})
    if not cfg.trainer.get("enable_progress_bar", True):
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    node = OmegaConf.merge(cfg.trainer, {"enable_progress_bar": bar})
    try:
        trainer = build(node, callbacks=callbacks, logger=loggers or False)
    except (MisconfigurationException, ValueError) as error:  # ValueError: an unknown strategy
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error
    trainer.strategy.checkpoint_io = CheckpointFiles()
    return trainer


def build_loggers(nodes: DictConfig | None, wandb: Mapping[str, str]) -> list[Logger]:
    """The loggers of a group of nodes; W&B's gets what its node leaves out of the id, group and name of its run."""
    given = [node for node in (nodes or {}).values() if node is not None]
    return [instantiate(node, _convert_="all", **(left_out(node, wandb) if is_wandb(node) else {})) for node in given]


def left_out(node: DictConfig, values: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in values.items() if node.get(key) is None}


def check_devices(cfg: DictConfig) -> None:
    """Raises ConfigError if the trainer asks for a GPU and there is none: before data are read and a model is built."""
    asked = cfg.trainer.get("accelerator")
    if asked not in GPUS:
        return
    if not any(kind.is_available() for kind in GPUS[asked]):
        raise ConfigError(
            f"trainer.accelerator: {asked}, but PyTorch {torch.__version__} sees none here; without one: trainer=cpu "
            "(in eval.py trainer.accelerator=cpu)"
        )
