"""From a validated configuration to objects.

The parts get plain Python values (dict, list, str, ...), never OmegaConf's, so that what a module saves of them in its
checkpoint loads again with `weights_only=True`.
"""

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.loggers import Logger

from tasks.common.remarks import drop_remarks


def build(node: DictConfig, **keywords: Any) -> Any:
    """Calls a node's `_target_` with its own keys and with `keywords`, which do not pass through OmegaConf."""
    return instantiate(node, _partial_=True, _convert_="all")(**keywords)


def build_all(nodes: DictConfig | None) -> list[Any]:
    """The objects of a group of nodes (callbacks, loggers); a node set to null is left out."""
    return [instantiate(node, _convert_="all") for node in (nodes or {}).values() if node is not None]


def build_datamodule(cfg: DictConfig) -> LightningDataModule:
    """The data module, its files found (or generated) and checked: missing or bad data stops here."""
    datamodule = build(cfg.data)
    datamodule.prepare_data()
    return datamodule


def build_module(cfg: DictConfig, datamodule: LightningDataModule) -> LightningModule:
    """The task's module, with its mask settings and the facts of the data (widths, vocabulary, ...)."""
    return build(cfg.task, mask=OmegaConf.to_container(cfg.mask, resolve=True), facts=datamodule.facts())


def build_trainer(cfg: DictConfig) -> Trainer:
    """Lightning's Trainer with the configured callbacks and loggers."""
    drop_remarks()
    callbacks: list[Callback] = build_all(cfg.callbacks)
    loggers: list[Logger] = build_all(cfg.logger)
    return build(cfg.trainer, callbacks=callbacks, logger=loggers or False)
