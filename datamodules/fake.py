"""Fake files of a data set, in its real formats and sizes per sample, and how large the real one is.

    fake = write_fake(folder, node)     # the data node of a configuration, as a dict; its module's file fake.py writes
    fake.settings                       # what the data node must have instead, such as val_split for so few samples

They are noise: every reader, shape and type is the real one, and no number means anything. A rehearsal reads them
(`python -m scripts.rehearse`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from configs.errors import ConfigError


@dataclass(frozen=True)
class Fake:
    """samples: training samples that were written. training: those of the real data set, of one epoch.
    disk: bytes of the real data set, worked out from `words`. settings: changes of the data node."""

    samples: int
    training: int
    disk: float
    words: str
    settings: dict[str, Any] = field(default_factory=dict)


def write_fake(folder: Path, data: Mapping[str, Any]) -> Fake:
    """Writes the files into `folder`. Raises ConfigError for a data module that has no file fake.py."""
    name = f"{str(data['_target_']).rpartition('.')[0]}.fake"
    if find_spec(name) is None:
        raise ConfigError(f"data._target_: no fake files for {data['_target_']}; it needs a file fake.py")
    return import_module(name).write(folder, data)
