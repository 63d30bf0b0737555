"""Choices of Hydra that come with a package which is not installed: the message says which extra has it."""

from collections.abc import Sequence
from importlib.util import find_spec

EXTRAS = {  # choice on the command line -> module of the plugin, extra of pyproject.toml
    "hydra/launcher=submitit_local": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "hydra/launcher=submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "hydra/sweeper=optuna": ("hydra_plugins.hydra_optuna_sweeper", "optuna"),
    "sweep=search": ("hydra_plugins.hydra_optuna_sweeper", "optuna"),
    "hydra/launcher=ray": ("hydra_plugins.hydra_ray_launcher", ""),
    "hydra/launcher=joblib": ("hydra_plugins.hydra_joblib_launcher", ""),
}
ALONE = {  # packages without an extra
    "hydra/launcher=ray": "pip install hydra-ray-launcher; docs/sweeps.md says what it was not tried with",
    "hydra/launcher=joblib": "hydra/launcher=local does the same, and goes on when a job is killed",
}


def missing_extra(arguments: Sequence[str]) -> str | None:
    """What to install for the first choice whose package is not there; None if nothing is missing."""
    for argument in arguments:
        module, extra = EXTRAS.get(argument, (None, None))
        if module is not None and not installed(module):
            hint = f"pip install -e '.[lab,{extra}]'" if extra else ALONE[argument]
            return f"{argument} needs a package that is not installed: {hint}"
    return None


def installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the namespace hydra_plugins
        return False
