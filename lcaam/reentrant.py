"""Masks and re-entrant checkpointing (torch.utils.checkpoint with use_reentrant=True), which connects tensors alone.

It runs a function without gradients first, and hands gradients only to the tensors that the function takes and returns.
A Mask that is returned, or comes from outside, would silently get none, so attention refuses it.
"""

import sys
from types import FrameType

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointFunction

REMEDY = "use torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"


def arguments_outside() -> tuple | None:
    """The arguments of the re-entrantly checkpointed function that is running for the first time, or None."""
    if torch.is_grad_enabled():
        return None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code is CheckpointFunction.forward.__code__:
            return tuple(frame.f_locals.get("args", ()))
        frame = frame.f_back
    return None


def check_gradients(tensors: list[Tensor], lost: bool) -> None:
    """ValueError if gradients of a mask's tensors would not arrive. lost: it was made inside such a function."""
    if torch.is_grad_enabled():
        if lost:
            raise ValueError(
                "this mask was made inside a re-entrantly checkpointed function, so its network would get no gradient: "
                f"{REMEDY}"
            )
        return
    computed = [tensor for tensor in tensors if tensor.grad_fn is not None]
    if computed:
        arguments = arguments_outside()
        if arguments is not None and not all(is_one_of(tensor, arguments) for tensor in computed):
            raise ValueError(
                "a mask with gradients was made outside of the re-entrantly checkpointed function that uses it, which "
                f"would not hand its gradients on: {REMEDY}"
            )


def is_one_of(tensor: Tensor, arguments: tuple) -> bool:
    return any(tensor is argument for argument in arguments)
