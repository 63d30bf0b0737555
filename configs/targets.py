"""Which `_target_` a configuration may name: what a shipped YAML names, this project's packages, and torch.optim.

A configuration is data that people send each other; `_target_: os.system` would make it a program. The name is
checked before anything is imported. The object that it leads to is checked again, since a name such as
`tasks.some.module.os.system` begins in this project and ends outside it.
"""

import re
from collections.abc import Callable
from functools import cache, reduce
from importlib import import_module
from typing import Any

from configs.errors import ConfigError, listed, nearest
from configs.resolvers import ROOT

PACKAGES = ("lcaam", "datamodules", "tasks", "torch.optim")


@cache
def shipped() -> frozenset[str]:
    """Every `_target_` of the YAML files beside this module; configs/local/ belongs to the user and is left out."""
    folder = ROOT / "configs"
    files = [path for path in folder.rglob("*.yaml") if "local" not in path.relative_to(folder).parts]
    pattern = re.compile(r"^[\s-]*_target_:\s*([\w.]+)", re.MULTILINE)
    return frozenset(name for path in files for name in pattern.findall(path.read_text(encoding="utf-8")))


def resolve(path: str, target: str) -> Callable:
    """The class or function that `target` names, for the node at `path`.

    Raises ConfigError if it is not allowed or does not exist.
    """
    if not isinstance(target, str):
        raise ConfigError(f"{path}._target_: {target!r} is not a string")
    if target not in shipped() and not _ours(target):
        raise ConfigError(
            f"{path}._target_: '{target}' is not allowed: a target must be named in a YAML file of configs/ or be in "
            f"{listed(PACKAGES)}{nearest(target, shipped())}"
        )
    try:
        found = _locate(target)
    except Exception as error:  # whatever the imported module raises, the user's question is "which target?"
        raise ConfigError(
            f"{path}._target_: '{target}' cannot be imported: {error}{nearest(target, shipped() - {target})}"
        ) from error
    if not callable(found):
        raise ConfigError(f"{path}._target_: '{target}' is not a class or a function")
    if target not in shipped() and not _ours(getattr(found, "__module__", None) or ""):
        raise ConfigError(
            f"{path}._target_: '{target}' is not allowed: it leads to {getattr(found, '__module__', '?')}, "
            f"outside {listed(PACKAGES)}"
        )
    return found


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
