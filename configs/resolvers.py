"""The functions that the YAML files call as `${name:argument}`.

They do not need Hydra's own `${hydra:...}`, so that a plain `hydra.compose(...)` resolves as well.
"""

import os
from datetime import datetime
from importlib import import_module
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parent.parent


def run_stamp() -> str:
    """A folder name that no other run has: the time to the microsecond, and the rank if it is not 0."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    rank = os.environ.get("RANK", "0")
    return stamp if rank == "0" else f"{stamp}-rank{rank}"


def run_dir(base: str) -> str:
    """The folder that Hydra made for this run; without Hydra's application, a new name below `base`."""
    if HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().runtime, "output_dir"):
        return HydraConfig.get().runtime.output_dir  # it is missing while `--cfg job --resolve` shows the settings
    return str(Path(base).absolute() / run_stamp())


OmegaConf.register_new_resolver("project_root", lambda: str(ROOT), replace=True)
OmegaConf.register_new_resolver("absolute", lambda path: str(Path(path).absolute()), replace=True)
OmegaConf.register_new_resolver("multiply", lambda a, b: a * b, replace=True)
OmegaConf.register_new_resolver("run_dir", run_dir, replace=True, use_cache=True)
OmegaConf.register_new_resolver("run_stamp", run_stamp, replace=True, use_cache=True)
OmegaConf.register_new_resolver("help_text", lambda: import_module("configs.help").help_text(), replace=True)
