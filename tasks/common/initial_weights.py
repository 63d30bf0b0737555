"""A training that begins from the weights of another one, or of an imported model: `task.init_from=CHECKPOINT`.

    python train.py experiment=charades_sta_lcaam task.init_from=logs/qd_detr_released/checkpoints/last.ckpt

Only weights are taken: no optimiser, no step, no settings. Every weight of the model must be in the file and have its
shape, but for masks and what controls put in their place: a file without them leaves them as they were initialised.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from configs.errors import listed
from lcaam.plan import additions
from tasks.common.checkpoint_files import read_checkpoint
from tasks.common.errors import CheckpointError

log = logging.getLogger(__name__)

SHOWN = 6  # names in a message


def weights_of(path: str | Path, key: str = "task.init_from", hint: str = "") -> tuple[dict[str, Tensor], dict]:
    """The weights by name, and the settings, of a checkpoint of this project, on the CPU.

    Raises CheckpointError: no such file, damaged, or a checkpoint of something else, of which `hint` says more.
    """
    path = Path(path)
    if not path.is_file():
        found = f"; it holds {listed(sorted(str(file) for file in path.rglob('*.ckpt')))}" if path.is_dir() else ""
        raise CheckpointError(f"{key}={path}: {f'is a folder{found}' if path.is_dir() else 'there is no such file'}")
    content = read_checkpoint(path, "cpu", hint=hint)
    weights = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f"{key}={path}: not a checkpoint of this project: it has no state_dict{hint}")
    return dict(weights), content.get("hyper_parameters") or {}


def take_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Copies `weights` into `model`, whose names they have; the log says what was not taken from them.

    Raises CheckpointError: a weight is missing, has another shape, or has no place in the model.
    """
    own = model.state_dict()
    added = {id(value) for part in additions(model) for value in (*part.parameters(), *part.buffers())}
    every = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    values = dict(every)
    masks = {name for name in own if id(values.get(name)) in added}
    without_masks = masks and not masks & weights.keys()
    wanted = own.keys() - masks if without_masks else own.keys()
    problems = [
        *_lines("it lacks", wanted - weights.keys()),
        *_lines(
            "of another shape",
            (
                f"{name} {tuple(weights[name].shape)}, this model needs {tuple(own[name].shape)}"
                for name in wanted & weights.keys()
                if weights[name].shape != own[name].shape
            ),
        ),
        *_lines("this model has no", (name for name in weights.keys() - own.keys() if not _of_mask(name))),
    ]
    if problems:
        raise CheckpointError(f"{source}: its weights do not fit this model:\n  " + "\n  ".join(problems))
    model.load_state_dict({name: weights[name] for name in wanted}, strict=False)
    log.info("%s: %s weights taken", source, f"{sum(own[name].numel() for name in wanted):,}")
    if without_masks:
        count = f"{sum(own[name].numel() for name in masks):,}"
        log.info("it has no masks: this model's (%s weights) start at their own initialisation", count)
    if left := weights.keys() - own.keys():
        log.warning("%s: its masks are left out, as this model has none: %s", source, _some(left))


def _of_mask(name: str) -> bool:
    return ".masks." in f".{name}"


def _lines(what: str, names: Iterable[str]) -> list[str]:
    names = sorted(names)
    return [f"{what}: {_some(names)}"] if names else []


def _some(names: Iterable[Any]) -> str:
    names = sorted(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
