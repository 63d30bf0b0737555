"""What sets a run apart from its experiment, in a few words.

asked(["experiment=msrvtt_baseline", "mask=lcaam", "++seed=3"])    ["mask=lcaam"]: what the command line asked for
own_settings(cfg)      ["mask.depth=4"]: the settings that are not the experiment's, however they were asked for
setting_name(cfg)      "qvhighlights_lcaam-mini-depth_4-1f0c9b3e": names a setting, the same for all its seeds
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from configs.command_line import unmarked
from configs.composing import composed
from configs.identity import UNSEEN_TRAINER, apart, deciding, setting_id

UNNAMED = (
    "experiment",
    "scale",
    "seed",
    "threads",
    "resume",
    "sweep",
    "paths",
    "logger",
    "callbacks",
    "floors",
    "hydra",
)
UNNAMED += ("optimized_metric", "local")
LONGEST = 80  # characters of a setting's name before its hash; W&B allows 128 in all
DIGITS = 8  # of the hash: two of 1,000 settings share it with a probability of 1e-4, two of one sweep with 1e-7


def asked(overrides: Sequence[str]) -> list[str]:
    """The words of a command line that say which model is trained on what, without experiment, scale and seed."""
    found = []
    for word in unmarked(overrides):
        key = word.partition("=")[0].lstrip("+~")
        unseen = key.startswith("trainer.") and key.removeprefix("trainer.") in UNSEEN_TRAINER
        if re.split(r"[./@]", key)[0] not in UNNAMED and not unseen:
            found.append(word)
    return found


def title(cfg: DictConfig) -> str:
    """The experiment, what the command line changed of it, scale and seed."""
    changed = asked(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    return f"{' '.join((cfg.name, *changed))}, scale {cfg.scale_name}, seed {cfg.seed}"


def own_settings(cfg: DictConfig | Mapping[str, Any]) -> list[str]:
    """`key=value` for each setting that can change results and is not the experiment's at this scale; without the seed.

    Empty if no experiment of the configuration's name can be composed.
    """
    try:
        plain = of_experiment(cfg["name"], cfg["scale_name"])
    except (HydraException, OmegaConfBaseException):
        return []
    return [f"{key}={value}" for key, _, value in apart(plain, cfg) if key not in ("seed", "threads")]


@cache
def of_experiment(name: str, scale: str) -> dict[str, Any]:
    """The deciding settings of an experiment as its file has it; the state of a running Hydra application is kept."""
    running = GlobalHydra.instance().hydra
    try:
        return deciding(composed(f"experiment={name}", f"scale={scale}", "paths.run_dir=none", "logger=csv"))
    finally:
        GlobalHydra.instance().clear()
        if running is not None:
            GlobalHydra.instance().initialize(running)


def setting_name(cfg: DictConfig | Mapping[str, Any]) -> str:
    """Experiment, scale, its own settings as far as there is room, and the first digits of `setting_id`.

    It has only letters, digits and `._-`: it may be a file's name, and W&B's library turns `=` in a filter into `==`.
    """
    words = [cfg["name"], cfg["scale_name"]]
    for word in own_settings(cfg):
        key, _, value = word.partition("=")
        words.append(f"{key.rpartition('.')[2]}_{value}")
    kept = [safe(words[0])[:LONGEST]]
    for word in map(safe, words[1:]):
        if len("-".join((*kept, word))) > LONGEST:
            break
        kept.append(word)
    return "-".join((*kept, setting_id(cfg)[:DIGITS]))


def safe(word: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", word).strip("_")
