"""How long a run takes and what it leaves on disk, by arithmetic from its configuration and one measured step."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from datamodules.fake import Fake
from scripts.rehearse.step import Step

KEPT = 3  # checkpoints that lie in a run's folder at once: the last, the one before it while it is written, the best
HALF, FULL = 312.0, 19.5  # TFLOPS of an A100: matrix products of bfloat16, of float32


@dataclass(frozen=True)
class Device:
    """What is assumed of a device. tflops: None takes an A100's for the type of most parameters."""

    number: int
    gib: float
    tflops: float | None
    utilisation: float

    def rate(self, half: bool) -> float:
        """FLOPs a second that are reached."""
        return 1e12 * self.utilisation * (self.tflops or (HALF if half else FULL))


@dataclass(frozen=True)
class Plan:
    """What is planned for each device: updates, batches, validations; seconds for one batch; hours of training, without
    validations and test; rate, FLOPs per second; checkpoint, bytes; per_hour, checkpoints."""

    updates: int
    batches: int
    epochs: float
    validations: int
    seconds: float
    hours: float
    checkpoint: int
    per_hour: float
    rate: float


def planned(cfg: Any, module: nn.Module, step: Step, fake: Fake, device: Device) -> Plan:
    trainer = cfg.trainer
    again = trainer.get("accumulate_grad_batches") or 1
    epoch = max(1, math.ceil(fake.training / (cfg.data.batch_size * device.number)))
    updates = trainer.max_steps if trainer.max_steps > 0 else math.ceil(epoch / again) * trainer.max_epochs
    rate = device.rate(in_half(cfg, module))
    seconds = step.flops / rate
    interval, every = trainer.get("val_check_interval"), trainer.get("check_val_every_n_epoch", 1)
    if isinstance(interval, int) and every is None:
        between = interval
    else:
        between = (every or 1) * math.ceil(epoch * (interval if isinstance(interval, float) else 1))
    batches = updates * again
    per_hour = 3600 / (between * seconds)
    if minutes := next(found(cfg, "save_minutes"), None):
        per_hour = max(per_hour, 60 / minutes)
    return Plan(
        updates=updates,
        batches=batches,
        epochs=batches / epoch,
        validations=batches // between,
        seconds=seconds,
        hours=batches * seconds / 3600,
        checkpoint=saved(module) + step.optimiser,
        per_hour=per_hour,
        rate=rate,
    )


def in_half(cfg: Any, module: nn.Module) -> bool:
    """Whether most of the arithmetic is in 16 bits: by the trainer's precision, or by the parameters' type."""
    sizes = {dtype: 0 for dtype in (torch.float32, torch.bfloat16, torch.float16)}
    for parameter in module.parameters():
        sizes[parameter.dtype] = sizes.get(parameter.dtype, 0) + parameter.numel()
    return str(cfg.trainer.precision).startswith(("bf16", "16")) or sizes[torch.float32] < sum(sizes.values()) / 2


def saved(module: nn.Module) -> int:
    """Bytes of the weights that a checkpoint of the module holds; a frozen language model is left out by its module."""
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    return sum(value.numel() * value.element_size() for value in checkpoint["state_dict"].values())


def found(node: Any, key: str) -> Iterator[Any]:
    """Every value of a key, wherever it is."""
    if isinstance(node, Mapping) or hasattr(node, "items"):
        for name, value in node.items():
            if name == key and value:
                yield value
            yield from found(value, key)
