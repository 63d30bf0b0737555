"""Which frozen language model an adapter was trained on: a checkpoint without it must not be loaded onto another.

base = describe_base("models/llama-7b", llm)     # a few plain values that a checkpoint keeps
check_base(expected=checkpoint["base_model"], found=base)
"""

import hashlib
from typing import Any

import torch
from torch import nn

from tasks.common.errors import CheckpointError

SAMPLES = 64  # values of each tensor that go into a fingerprint; all 13 GB would take half a minute a start
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")


def describe_base(name: str, llm: nn.Module) -> dict[str, Any]:
    """Name, sizes and fingerprints of a language model whose weights are all here (not sharded)."""
    return {"name": name, **{size: getattr(llm.config, size) for size in SIZES}, **fingerprints(llm)}


@torch.no_grad()
def fingerprints(llm: nn.Module) -> dict[str, str | None]:
    """`linear`: of the linear layers inside the blocks, None where they are quantised; `rest`: of all other weights.

    Each covers every tensor's name and shape and `SAMPLES` evenly spaced values, rounded to bfloat16, so that the same
    weights are recognised whether they were loaded in float32 or bfloat16.
    """
    hashes = {"linear": hashlib.sha256(), "rest": hashlib.sha256()}
    quantised = False
    for name, parameter in llm.named_parameters():
        kind = "linear" if "_proj." in name else "rest"
        if not parameter.is_floating_point() or "bitsandbytes" in type(parameter).__module__:
            quantised = True
            continue
        flat = parameter.detach().flatten()
        at = torch.linspace(0, len(flat) - 1, min(SAMPLES, len(flat)), dtype=torch.float64).long()
        values = flat[at.to(flat.device)].to(torch.bfloat16).view(torch.int16).cpu().numpy()
        hashes[kind].update(f"{name} {tuple(parameter.shape)} ".encode() + values.tobytes())
    found = {kind: digest.hexdigest()[:16] for kind, digest in hashes.items()}
    return found | {"linear": None if quantised else found["linear"]}


def check_base(expected: dict[str, Any] | None, found: dict[str, Any] | None) -> None:
    """Raises CheckpointError where a checkpoint's base and the language model that is here are not the same.

    The name does not matter: folders are moved.
    """
    if expected is None and found is None:
        return
    if expected is None or found is None:
        has, needs = ("holds", "has a frozen one of its own") if expected is None else ("lacks", "brings none to add")
        raise CheckpointError(f"the checkpoint {has} the language model's weights, and the model at hand {needs}")
    compared = [*SIZES, "rest", *(["linear"] if expected["linear"] and found["linear"] else [])]
    if different := [key for key in compared if expected[key] != found[key]]:
        raise CheckpointError(
            "the checkpoint holds adapters for another language model: "
            f"expected {told(expected)}, found {told(found)}; different: {', '.join(different)}. "
            "Name the one it was trained on with task.llm.pretrained"
        )


def told(base: dict[str, Any]) -> str:
    sizes = f"{base['num_hidden_layers']} layers of width {base['hidden_size']}, {base['vocab_size']} tokens"
    return f"{base['name']!r} ({sizes}, weights {base['linear'] or 'quantised'}/{base['rest']})"
