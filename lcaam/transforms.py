"""What may look into a computation that only plain operations of torch let it see."""

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def only_the_equation(tensors: list[Tensor]) -> bool:
    """True if something looks into the computation that only plain operations let it see: torch.func transforms,
    forward-mode derivatives, tracing (torch.jit, ONNX), or tensors that are wrappers of others (DTensor)."""
    return (
        torch._C._are_functorch_transforms_active()
        or torch._C._get_tracing_state() is not None
        or forward_ad._current_level >= 0
        or any(is_traceable_wrapper_subclass(tensor) for tensor in tensors)
    )
