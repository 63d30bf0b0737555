"""A run's configuration without Hydra's application, as train.py would get it.

>>> cfg = composed("experiment=msrvtt_baseline", "mask=static_swinbert", "scale=mini", "seed=3")
"""

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from configs.command_line import marked

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def composed(*overrides: str) -> DictConfig:
    """What train.py would get for these overrides. Not validated; raises Hydra's errors."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("train", marked(overrides))


def plain_mask(cfg: DictConfig) -> dict[str, Any]:
    """The `mask` node as a model is built with it."""
    return OmegaConf.to_container(cfg.mask, resolve=True)
