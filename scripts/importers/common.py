"""Reads files that others released without running their code, and defines what an importer gives back."""

import argparse
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig

from configs.guard import reading
from tasks.common.checkpoint_files import verify
from tasks.common.errors import CheckpointError

if TYPE_CHECKING:  # it takes seconds to import
    from pytorch_lightning import LightningModule


# Beyond tensors and plain values. An EasyDict, in which Lighthouse keeps its options, becomes a dict of the same keys:
# nothing of its class is imported or run. (OrderedDict: of a plain dict torch cannot restore the attributes.)
ALLOWED = [argparse.Namespace, (OrderedDict, "easydict.EasyDict")]
WRAPPERS = ("module.", "_orig_mod.")  # before every name of a model in DistributedDataParallel, in torch.compile


@dataclass
class Imported:
    """The module in eval mode, the configuration to test it with (None if its data are unknown), and what to print."""

    module: "LightningModule"
    cfg: DictConfig | None
    remarks: list[str]


def read(path: Path) -> Any:
    """The content of a file of torch.save, on the CPU: tensors, plain values, argparse.Namespace, EasyDict as a plain
    mapping, and nothing else.

    Raises CheckpointError for a file that is missing, cut off or not a checkpoint, and for anything else in its pickle,
    which it names.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: {'a folder, not a file' if path.is_dir() else 'there is no such file'}")
    try:
        with (
            reading(
                f"{path} ({path.stat().st_size:,} bytes) is not a checkpoint of torch.save, or it is cut off",
                CheckpointError,
            ),
            torch.serialization.safe_globals(ALLOWED),
        ):
            verify(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error.__cause__))
        if refused is None:
            raise
        raise CheckpointError(
            f"{path}: its pickle asks for {refused[1]}, which loading would run; only tensors, plain values and "
            "argparse.Namespace are read (and easydict.EasyDict, as a plain mapping). Nothing of it was run"
        ) from error.__cause__


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


KEYS = ("model", "state_dict", "module")  # of what holds a state dict; "module" is DeepSpeed's


def _key_of(content: Any) -> str | None:
    """The key of KEYS under which `content` holds more names, if there is one."""
    if not isinstance(content, Mapping):
        return None
    return next((key for key in KEYS if isinstance(content.get(key), Mapping)), None)


def state_dict_of(content: Any, source: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The weights of a file, by the names of the bare model, and what to tell of how they were found.

    They are in "model", "state_dict" or "module" (where DeepSpeed puts them), one in another if need be, or are the
    file itself. What a wrapper of torch puts before every name is left out. Raises CheckpointError as `tensors_of`.
    """
    key = _key_of(content)
    while key is not None and (inner := _key_of(content[key])) is not None:
        content, key = content[key], inner
    if key is None and isinstance(content, Mapping) and any(torch.is_tensor(value) for value in content.values()):
        content, key = {"model": content}, "model"
    weights, remarks = tensors_of(content, key or "model", source), []
    while prefix := next((one for one in WRAPPERS if weights and all(n.startswith(one) for n in weights)), None):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
        remarks.append(f"'{prefix}' before every name is left out: a wrapper of torch put it there")
    return weights, remarks
