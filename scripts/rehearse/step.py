"""What one training step at the configured sizes needs: FLOPs and memory, by running it without numbers.

The step (forward and backward of a whole batch, dropout and recomputed activations included) runs on the meta device,
on which tensors have shapes and no values. torch's FLOP counter counts matrix products and attention; `Live` follows
which storages are alive, as torch's allocator would, and keeps the largest sum. A task whose loss needs values (a
matching, a choice of hidden words) gets a small step on the CPU if it is affordable, else the sum of its outputs as a
loss.
"""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

from scripts.cost.counting import moved
from scripts.cost.hooks import hooks_of

AFFORDABLE = 1e12  # FLOPs of a step that a CPU does in seconds
MOMENTS = 2  # tensors that AdamW keeps per trained parameter


@dataclass(frozen=True)
class Step:
    """Bytes and FLOPs of a step on one device. method: how the activations were found, in words.

    reason: why not in the whole step on the meta device; "" if they were.
    """

    parameters: int
    trained: int  # number of trained parameters
    gradients: int
    optimiser: int
    activations: int
    flops: int
    method: str
    reason: str = ""

    @property
    def memory(self) -> int:
        return self.parameters + self.gradients + self.optimiser + self.activations


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are made inside; `peak` is the most that were alive at once."""

    def __init__(self, there: Iterable[Tensor]):
        super().__init__()
        self.now = self.peak = 0
        self.known: weakref.WeakSet = weakref.WeakSet()
        for tensor in there:
            self.known.add(tensor.untyped_storage())

    def __torch_dispatch__(self, function: Callable, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, Tensor):
                self.follow(tensor.untyped_storage())
        return made

    def follow(self, storage: torch.UntypedStorage) -> None:
        if storage in self.known:
            return
        self.known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self.free, size)

    def free(self, size: int) -> None:
        self.now -= size


def measured_step(cfg: Any, module: nn.Module, on_cpu: Callable[[], nn.Module], stand_in: dict, real: dict) -> Step:
    """The step of a batch of cfg.data.batch_size samples.

    module: on the meta device, in training mode. on_cpu: makes it there. stand_in: a batch of one sample; real: one
    from the data module, for a step on the CPU.
    """
    batch = repeated(moved(stand_in, torch.device("meta")), cfg.data.batch_size)
    reason = ""
    try:
        peak, flops = followed(module, batch, lambda: module.training_loss(batch, 0))
        method = "the training step on the meta device"
    except (NotImplementedError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if 3 * cfg.data.batch_size * module.flops(moved(stand_in, torch.device("meta"))) < AFFORDABLE:
            there, size = on_cpu(), len(next(iter(real.values())))
            batch = repeated(real, -(-cfg.data.batch_size // size))
            peak, flops = followed(there, batch, lambda: there.training_loss(batch, 0))
            method = "the training step on the CPU"
        else:
            module.zero_grad(set_to_none=True)
            forward = hooks_of(cfg).calls(module, batch)["forward"]
            peak, flops = followed(module, batch, lambda: total(forward()))
            method = "the forward pass on the meta device and the backward pass of its outputs' sum"
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    gradients = bytes_of(trained)
    return Step(
        parameters=bytes_of([*module.parameters(), *module.buffers()]),
        trained=sum(parameter.numel() for parameter in trained),
        gradients=gradients,
        optimiser=MOMENTS * gradients,
        activations=max(0, peak - gradients),
        flops=flops,
        method=method,
        reason=reason,
    )


def followed(module: nn.Module, batch: dict, loss: Callable[[], Tensor]) -> tuple[int, int]:
    """The peak of live bytes and the FLOPs of a loss and its gradients."""
    module.log = module.log_dict = lambda *args, **kwargs: None  # there is no trainer
    there = [*module.parameters(), *module.buffers(), *(value for value in batch.values() if torch.is_tensor(value))]
    live = Live(there)
    with FlopCounterMode(display=False) as counter, live:
        loss().backward()
    return live.peak, counter.get_total_flops()


def total(outputs: Any) -> Tensor:
    found = [value for value in tree_iter(outputs) if torch.is_tensor(value) and value.requires_grad]
    return torch.stack([value.float().sum() for value in found]).sum()


def repeated(batch: dict[str, Any], times: int) -> dict[str, Any]:
    """The batch `times` over."""
    return {
        name: value.repeat(times, *[1] * (value.dim() - 1)) if torch.is_tensor(value) else value * times
        for name, value in batch.items()
    }


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors, each storage once."""
    return sum({id(tensor.untyped_storage()): tensor.untyped_storage().nbytes() for tensor in tensors}.values())
