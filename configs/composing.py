"""A run's configuration without Hydra's application, for scripts, notebooks and tests.

>>> cfg = composed("experiment=madv2_lcaam", "scale=mini", "seed=3")
"""

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from configs.command_line import marked
from configs.resolvers import ROOT


def composed(*overrides: str) -> DictConfig:
    """What train.py gets for these arguments. Not validated; raises Hydra's and OmegaConf's errors."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", marked(overrides))
