"""Reads files that others released without running their code, and defines what an importer gives back."""

import argparse
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig

from tasks.common.checkpoint_files import verify
from tasks.common.errors import CheckpointError

if TYPE_CHECKING:  # it takes seconds to import
    from pytorch_lightning import LightningModule

ALLOWED = [argparse.Namespace]  # beyond tensors and plain values


@dataclass
class Imported:
    """The module in eval mode, the configuration to test it with (None if its data are unknown), and what to print."""

    module: "LightningModule"
    cfg: DictConfig | None
    remarks: list[str]


def read(path: Path) -> Any:
    """The content of a file of torch.save, on the CPU: tensors, plain values, argparse.Namespace and nothing else.

    Raises CheckpointError for a file that is missing, cut off or not a checkpoint, and for anything else in its pickle,
    which it names.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: {'a folder, not a file' if path.is_dir() else 'there is no such file'}")
    try:
        verify(path)
        with torch.serialization.safe_globals(ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError,
            AssertionError, pickle.UnpicklingError) as error:  # fmt: skip
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            raise CheckpointError(
                f"{path}: its pickle asks for {refused[1]}, which loading would run; only tensors, plain values and "
                "argparse.Namespace are read. Nothing of it was run"
            ) from error
        reason = str(error).splitlines()[0] if str(error) else "empty"
        raise CheckpointError(
            f"{path} ({path.stat().st_size:,} bytes) is not a checkpoint of torch.save, or it is cut off "
            f"({type(error).__name__}: {reason})"
        ) from error


def tensors_of(content: Any, key: str, source: str) -> dict[str, torch.Tensor]:
    """content[key] as finite tensors by name. CheckpointError for anything else, and for this project's own files."""
    if isinstance(content, Mapping) and {"state_dict", "hyper_parameters"} <= content.keys():
        raise CheckpointError(f"{source} is a checkpoint of this project already: there is nothing to import")
    if not isinstance(content, Mapping) or not isinstance(content.get(key), Mapping):
        holds = ", ".join(map(str, [*content][:8])) if isinstance(content, Mapping) else type(content).__name__
        raise CheckpointError(f"{source}: no state dict '{key}' in it; it holds {holds or 'nothing'}")
    weights = dict(content[key])
    for name, value in weights.items():
        if not isinstance(name, str) or not torch.is_tensor(value):
            raise CheckpointError(f"{source}: {key}[{name!r}] is {type(value).__name__}, expected a tensor")
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{source}: {key}[{name!r}] has numbers that are not finite")
    return weights
