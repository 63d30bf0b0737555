"""Compares a batch of the real data module with what the model was measured on."""

from typing import Any

import torch


def different(real: dict[str, Any], stand_in: dict[str, Any]) -> list[str]:
    """What the two batches do not share: keys that one lacks, types, sizes of a sample beside padded lengths."""
    lacking = [f"the batch has no {name}" for name in stand_in if name not in real]
    found = []
    for name in real.keys() & stand_in.keys():
        one, other = real[name], stand_in[name]
        if torch.is_tensor(one) != torch.is_tensor(other):
            found.append(f"{name} is a {type(one).__name__}, expected a {type(other).__name__}")
        elif torch.is_tensor(one):
            if one.dtype != other.dtype or one.dim() != other.dim():
                found.append(f"{name} is {described(one)}, expected {described(other)}")
            elif any(a > b for a, b in zip(one.shape[1:], other.shape[1:], strict=True)):
                found.append(f"{name} of a sample is {tuple(one.shape[1:])}, expected at most {tuple(other.shape[1:])}")
    return [*lacking, *sorted(found)]


def described(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def shapes(batch: dict[str, Any]) -> str:
    """The shapes of the batch's tensors in words."""
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in batch.items() if torch.is_tensor(value))
