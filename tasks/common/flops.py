"""FLOPs of a forward pass, by PyTorch's own counter: 2 per multiply-add, matrix products and attention only.

Softmax, norms and other element-wise work count as 0 there. Attention is always counted as its two matrix products
(lcaam's by backend "reference", PyTorch's by its MATH kernel): the counter knows only some of the fused kernels, so the
number would depend on the machine.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_flops(model: nn.Module, forward: Callable[[], object]) -> int:
    """FLOPs that `forward()` spends, without gradients; `model` holds the attention modules it runs."""
    plain = sdpa_kernel(SDPBackend.MATH)
    with torch.no_grad(), plain, reference_backend(model), FlopCounterMode(display=False) as counter:
        forward()
    return counter.get_total_flops()


@contextmanager
def reference_backend(model: nn.Module) -> Iterator[None]:
    """Inside the block, every module of `model` that chooses a backend of lcaam.attention uses "reference"."""
    modules = [module for module in model.modules() if isinstance(getattr(module, "backend", None), str)]
    before = [module.backend for module in modules]
    try:
        for module in modules:
            module.backend = "reference"
        yield
    finally:
        for module, backend in zip(modules, before, strict=True):
            module.backend = backend
