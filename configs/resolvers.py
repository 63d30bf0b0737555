"""The functions that the YAML files call as `${name:argument}`.

They do not need Hydra's own `${hydra:...}`, so that a plain `hydra.compose(...)` resolves as well.
"""

import itertools
import os
from collections.abc import Mapping
from datetime import datetime
from importlib import import_module
from pathlib import Path

from omegaconf import Container, OmegaConf

ROOT = Path(__file__).resolve().parent.parent
ASKED = itertools.count()  # all ranks ask for the same values in the same order


def run_stamp() -> str:
    """A folder name that no other run has: the first rank's time to the microsecond, and the rank if it is not 0."""
    stamp = of_first_rank(datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f"))
    rank = os.environ.get("RANK", "0")
    return stamp if rank == "0" else f"{stamp}-rank{rank}"


def of_first_rank(value: str) -> str:
    """The first rank's value, in every process that torchrun started; the value itself in any other process."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return value
    from torch.distributed import TCPStore  # only here: torch takes seconds to import

    # torchrun's own store, which is there before the ranks know each other, and outlives a restart of them
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    key = f"lcaam/{os.environ['TORCHELASTIC_RESTART_COUNT']}/{next(ASKED)}"
    if os.environ["RANK"] == "0":
        store.set(key, value)
    return store.get(key).decode()


def run_dir(base: str) -> str:
    """The folder that Hydra made for this run; without Hydra's application, a new name below `base`."""
    from hydra.core.hydra_config import HydraConfig  # only here: commands that need no Hydra start in half the time

    if HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().runtime, "output_dir"):
        return HydraConfig.get().runtime.output_dir  # it is missing while `--cfg job --resolve` shows the settings
    return str(Path(base).absolute() / run_stamp())


def for_fusion(rates: Mapping[str, float], *, _root_: Container) -> float:
    """The factor that was searched with the mask's fusion (configs/tuned/); 1 for a fusion that was not searched."""
    return rates.get(OmegaConf.select(_root_, "mask.fusion"), 1.0)


OmegaConf.register_new_resolver("project_root", lambda: str(ROOT), replace=True)
OmegaConf.register_new_resolver("absolute", lambda path: str(Path(path).absolute()), replace=True)
OmegaConf.register_new_resolver("for_fusion", for_fusion, replace=True)
OmegaConf.register_new_resolver("multiply", lambda a, b: a * b, replace=True)
OmegaConf.register_new_resolver("run_dir", run_dir, replace=True, use_cache=True)
OmegaConf.register_new_resolver("run_stamp", run_stamp, replace=True, use_cache=True)
OmegaConf.register_new_resolver("help_text", lambda: import_module("configs.help").help_text(), replace=True)
