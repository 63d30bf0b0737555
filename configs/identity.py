"""What a run is, apart from where it runs and what it shows: two runs with one identity end with the same numbers.

    identity(cfg)                    '5f0c1e9a77b3d2c4', also the field `identity` of results.json
    setting_id(cfg)                  the same without the seed: runs of one setting, which a table or W&B puts together
    differences(saved, cfg)          [("task.lr", 0.002, 0.1)]

A setting that has its class's default is as good as none: a run is recognised by code that knows more settings.
A sweep recognises its finished cells by the identity, `resume=auto` its run, and `resume=` refuses what differs.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from configs.signatures import parameters

FORMAT = 3  # raise it when a change of the code, or of a default, gives the same settings other results
MASK = "configs.schema.Mask"  # describes the mask's node, which names no class
ROOT_KEYS = ("name", "scale_name", "seed", "threads", "num_keys", "test_checkpoint", "mask", "task")
UNSEEN_TRAINER = (  # arguments of the Trainer that change what is shown or where, not what is computed
    "default_root_dir",
    "enable_checkpointing",
    "enable_model_summary",
    "enable_progress_bar",
    "log_every_n_steps",
    "profiler",
)
UNSEEN_CALLBACKS = (  # callbacks that watch and do not act
    "pytorch_lightning.callbacks.DeviceStatsMonitor",
    "pytorch_lightning.callbacks.LearningRateMonitor",
    "pytorch_lightning.callbacks.ModelSummary",
    "pytorch_lightning.callbacks.RichModelSummary",
    "pytorch_lightning.callbacks.RichProgressBar",
    "pytorch_lightning.callbacks.TQDMProgressBar",
    "tasks.common.analysis_figures.AnalysisFigures",
    "tasks.common.budgets.BranchCheckpoint",
    "tasks.common.last_checkpoint.LastCheckpoint",
    "tasks.common.layer_data.LayerData",
    "tasks.common.non_finite.NonFiniteLoss",
    "tasks.common.progress.ModelSummary",
    "tasks.common.progress.progress_bar",
)
CHECKPOINT = "pytorch_lightning.callbacks.ModelCheckpoint"
CHOOSING = ("monitor", "mode", "save_top_k")  # by which a ModelCheckpoint finds the best weights


def identity(cfg: DictConfig | Mapping[str, Any]) -> str:
    """16 hexadecimal digits of a configuration's settings that can change its results, the seed included."""
    return _digest(deciding(cfg))


def setting_id(cfg: DictConfig | Mapping[str, Any]) -> str:
    """16 hexadecimal digits of the same settings without the seed: equal for the seeds of one setting only."""
    return _digest({key: value for key, value in deciding(cfg).items() if key != "seed"})


def _digest(settings: Mapping[str, Any]) -> str:
    text = json.dumps({"format": FORMAT, **_chosen(settings)}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def deciding(cfg: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """The settings that can change a run's results, as plain values.

    Left out are paths, loggers, floors, `resume`, the paper's figures, the settings of the data that no result depends
    on (`Data.places`), and what the lists above name.
    """
    plain = OmegaConf.to_container(cfg, resolve=True) if isinstance(cfg, DictConfig) else dict(cfg)
    best = plain.get("test_checkpoint") == "best"
    nodes = {name: _acting(node, best) for name, node in (plain.get("callbacks") or {}).items()}
    found = {key: plain.get(key) for key in ROOT_KEYS}
    found["data"] = _data(plain["data"])
    found["trainer"] = {key: value for key, value in plain["trainer"].items() if key not in UNSEEN_TRAINER}
    found["callbacks"] = {name: node for name, node in nodes.items() if node}
    return _normal(found)


def differences(before: DictConfig | Mapping, after: DictConfig | Mapping) -> list[tuple[str, Any, Any]]:
    """The deciding settings in which two configurations differ: key, the first's value, the second's ("-": none)."""
    return apart(deciding(before), after)


def apart(before: Mapping[str, Any], after: DictConfig | Mapping) -> list[tuple[str, Any, Any]]:
    """`differences` from settings that `deciding` gave earlier, such as a checkpoint's."""
    now = deciding(after)
    first, second = dict(_leaves(before)), dict(_leaves(now))
    chosen, wanted = dict(_leaves(_chosen(before))), dict(_leaves(_chosen(now)))
    keys = [key for key in dict.fromkeys((*first, *second)) if chosen.get(key, "-") != wanted.get(key, "-")]
    return [(key, first.get(key, "-"), second.get(key, "-")) for key in keys]


def _chosen(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those of mask, task and data that have the default of their class."""
    found = dict(settings)
    for name, target in (("mask", MASK), ("task", None), ("data", None)):
        if isinstance(found.get(name), Mapping):
            found[name] = _without_defaults(found[name], target)
    return found


def _without_defaults(node: Mapping[str, Any], target: str | None) -> dict[str, Any]:
    """target: the dotted name of what takes the node's settings, if the node does not say it itself."""
    known = parameters(str(node.get("_target_", target)))
    names, defaults = (known.names, known.defaults) if known else ({}, {})
    found = {}
    for key, value in node.items():
        if key in defaults and _normal(value) == _normal(defaults[key]):
            continue
        inner = isinstance(value, Mapping) and (names.get(key) or "_target_" in value)
        found[key] = _without_defaults(value, names.get(key)) if inner else value
    return found


def _data(node: Mapping[str, Any]) -> dict[str, Any]:
    """The data's settings without its places. Real data may be moved, but its folder keeps its name."""
    from configs.targets import resolve  # imports the data module, and with it torch

    places = getattr(resolve("data", node["_target_"]), "places", ("root", "num_workers"))
    kept = {key: value for key, value in node.items() if key not in places}
    if "mini" in node and node["mini"] is None and node.get("root"):
        kept["root"] = Path(node["root"]).name
    return kept


def _acting(node: Mapping[str, Any] | None, best: bool) -> dict[str, Any]:
    """What of a callback's node can change results; empty if nothing can."""
    if not node or node.get("_target_") in UNSEEN_CALLBACKS:
        return {}
    if node.get("_target_") == CHECKPOINT:
        return {key: node[key] for key in CHOOSING if key in node} if best else {}
    return dict(node)


def _normal(value: Any) -> Any:
    """JSON's values, with 1.0 as 1: a whole number written either way is one setting."""
    if isinstance(value, Mapping):
        return {str(key): _normal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_normal(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _leaves(node: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value
