"""The rows of a cost table: one experiment with each mask, or each control, in turn.

>>> cfg = composed("none", ["experiment=madv2_baseline", "task.bridge_layers=18"])
"""

from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs import composing
from configs.errors import ConfigError, listed, nearest
from configs.schema import validate

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
TABLE_4 = ("none", "extra_linear", "extra_layers", "lcaam", "multi_lcaam")
UNCONNECTED = "extra_linear_no_residual"
OF_ROW = ("mask", "mask.scope", "mask.kind", "mask.control", "mask.control_residual")  # settings that define a row


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def all_rows() -> list[str]:
    """Every mask that configs/mask has, and the linear control as the paper may have built it."""
    others = [name for name in options("mask") if name not in TABLE_4]
    return [*TABLE_4, UNCONNECTED, *others]


def row_overrides(row: str) -> list[str]:
    return ["mask=extra_linear", "mask.control_residual=false"] if row == UNCONNECTED else [f"mask={row}"]


def composed(row: str, overrides: list[str]) -> DictConfig:
    """What train.py would run for these overrides with the row's mask, validated.

    Raises ConfigError if train.py would, and for an override that a row sets itself.
    """
    for override in overrides:
        key, equals, _ = override.lstrip("+~").partition("=")
        if not equals:
            raise ConfigError(f"{override!r} is not an override; write key=value, such as experiment=madv2_baseline")
        if key in OF_ROW:
            raise ConfigError(f"{override}: the rows of the table set {key}; choose them with --rows")
    if row == "none":  # a mask that is not there has no size
        overrides = [override for override in overrides if not override.lstrip("+~").startswith("mask.")]
    try:
        cfg = composing.composed(*overrides, *row_overrides(row))
    except (HydraException, OmegaConfBaseException) as error:
        chosen = next((item.partition("=")[2] for item in overrides if item.startswith("experiment=")), None)
        known = options("experiment")
        if chosen is not None and chosen not in known:
            raise ConfigError(
                f"experiment={chosen}: no experiment has that name{nearest(chosen, known)} (there are {listed(known)})"
            ) from error
        raise ConfigError(str(error)) from error
    validate(cfg)
    return cfg


def one_of_every_data_set() -> list[str]:
    """For every pair of data set and task the first experiment without a mask, by name."""
    found: dict[tuple[str, str], str] = {}
    for name in options("experiment"):
        defaults = OmegaConf.load(CONFIGS / "experiment" / f"{name}.yaml").get("defaults", [])
        entries = [item for entry in defaults if OmegaConf.is_dict(entry) for item in entry.items()]
        chosen = {key.split("/")[-1]: value for key, value in entries}  # "override /mask": none
        if chosen.get("mask") == "none":
            found.setdefault((chosen.get("data"), chosen.get("task")), name)
    return list(found.values())
