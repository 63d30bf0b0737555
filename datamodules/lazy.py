"""Names of a package that are imported when they are asked for, so that its readers can be used without Lightning.

__getattr__ = lazy("datamodules.moment_retrieval.datamodule", "Moments")     # in the package's __init__.py
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazy(module: str, *names: str) -> Callable[[str], Any]:
    """A package's `__getattr__` (PEP 562) that takes `names` from `module`."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module.rpartition('.')[0]!r} has no attribute {name!r}")
        return getattr(import_module(module), name)

    return find
