"""Which `_target_` a configuration may name: what a shipped YAML names at the same place, and classes of listed bases.

A configuration is data that people send each other; `_target_: os.system` would make it a program, and so would many a
function of this project that writes a file or starts a process. So a plain function may only be named at the places at
which a shipped YAML names it (`progress_bar` among the callbacks). A class may be anybody's that lies in PACKAGES, also
a new one in datamodules/<task>/ or tasks/<task>/, if it derives from what its place is for (BASES).

The name is checked before anything is imported. The object that it leads to is checked again, since a name such as
`tasks.some.module.os.system` begins in this project and ends outside it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, reduce
from importlib import import_module
from typing import Any

from omegaconf import OmegaConf

from configs.errors import ConfigError, listed, nearest
from configs.resolvers import ROOT

PACKAGES = ("lcaam", "datamodules", "tasks", "torch.optim")
BASES = {  # place -> what a class that is named there derives from
    "data": ("pytorch_lightning.LightningDataModule",),
    "task": ("pytorch_lightning.LightningModule",),
    "callbacks.*": ("pytorch_lightning.Callback",),
    "logger.*": ("pytorch_lightning.loggers.Logger",),
}
PARTS = ("torch.nn.Module", "torch.optim.Optimizer", "torch.optim.lr_scheduler.LRScheduler")  # at any other place
PACKAGE = re.compile(r"^#\s*@package\s+(\S+)", re.MULTILINE)


@cache
def shipped() -> dict[str, frozenset[str]]:
    """Every `_target_` of the YAML files beside this module, and the places that it is named at.

    configs/local/ belongs to the user and is left out.
    """
    found: dict[str, set[str]] = {}
    folder = ROOT / "configs"
    for path in folder.rglob("*.yaml"):
        parts = path.relative_to(folder).parts
        text = path.read_text(encoding="utf-8")
        if "local" in parts or "_target_:" not in text:
            continue
        package = PACKAGE.search(text)
        root = package[1] if package else ".".join(parts[:-1])
        for place, name in _named("" if root == "_global_" else root, OmegaConf.to_container(OmegaConf.load(path))):
            found.setdefault(name, set()).add(place_of(place))
    return {name: frozenset(places) for name, places in found.items()}


def place_of(path: str) -> str:
    """A node's path without what the user may choose: "callbacks.mine" is at "callbacks.*"."""
    parts = re.sub(r"\[\d+\]", "", path).split(".")
    return f"{parts[0]}.*" if len(parts) == 2 and f"{parts[0]}.*" in BASES else ".".join(parts)


def _named(place: str, node: Any) -> Iterator[tuple[str, str]]:
    """Place and name of each `_target_` below a node."""
    if isinstance(node, list):
        for item in node:
            yield from _named(place, item)
    elif isinstance(node, Mapping):
        for key, value in node.items():
            if key == "_target_":
                yield place, value
            else:
                yield from _named(f"{place}.{key}".lstrip("."), value)


def resolve(path: str, target: str) -> Callable:
    """The class or function that `target` names, for the node at `path`.

    Raises ConfigError if it is not allowed there or does not exist.
    """
    if not isinstance(target, str):
        raise ConfigError(f"{path}._target_: {target!r} is not a string")
    place = place_of(path)
    group = place.split(".")[0]
    named_here = place in shipped().get(target, ())
    if not named_here and not _ours(target):
        raise ConfigError(
            f"{path}._target_: '{target}' is not allowed: a target must be named in a YAML file of configs/{group}/ or "
            f"be in {listed(PACKAGES)}{nearest(target, _shipped_at(place))}"
        )
    try:
        found = _locate(target)
    except Exception as error:  # whatever the imported module raises, the user's question is "which target?"
        raise ConfigError(
            f"{path}._target_: '{target}' cannot be imported: {error}{nearest(target, shipped().keys() - {target})}"
        ) from error
    if not callable(found):
        raise ConfigError(f"{path}._target_: '{target}' is not a class or a function")
    if named_here:
        return found
    if not _ours(home := getattr(found, "__module__", None) or ""):
        raise ConfigError(
            f"{path}._target_: '{target}' is not allowed: it leads to {home or '?'}, outside {listed(PACKAGES)}"
        )
    bases = BASES.get(place, PARTS)
    if not isinstance(found, type) or not issubclass(found, tuple(_locate(base) for base in bases)):
        what = "a class" if isinstance(found, type) else "a function"
        raise ConfigError(
            f"{path}._target_: '{target}' is not allowed: it is {what}, and what is built here is a class derived from "
            f"{' or '.join(bases)}, or named there in a YAML file of configs/{group}/"
            f"{nearest(target, _shipped_at(place))}"
        )
    return found


def _shipped_at(place: str) -> list[str]:
    return [name for name, places in shipped().items() if place in places]


def _ours(name: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in PACKAGES)


def _locate(target: str) -> Any:
    """What a dotted name means: an attribute, of an attribute, ... of the longest prefix that is a module."""
    parts = target.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:cut])
        try:
            module = import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
                raise  # the module is there; something that it imports is not
            continue
        return reduce(getattr, parts[cut:], module)
    raise ImportError(f"no module named '{parts[0]}'")
