"""Which frozen language model an adapter was trained on: a checkpoint without it must not be loaded onto another.

base = describe_base("models/llama-7b", llm)     # a few plain values that a checkpoint keeps
check_base(expected=checkpoint["base_model"], found=base)
"""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tasks.audio_description import lora as adapters
from tasks.audio_description.lora import LoRA, is_lora
from tasks.audio_description.quantization import StoredWeights, is_packed, quantization_of
from tasks.common.errors import CheckpointError

log = logging.getLogger(__name__)

LLM = "model.llm."  # prefix of the language model's weights in a state dict
SAMPLES = 64  # values of each tensor that go into a fingerprint; all 13 GB would take half a minute per start
SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")


def describe_base(name: str, llm: nn.Module, lora: LoRA | None = None) -> dict[str, Any]:
    """Name, sizes and fingerprints of a language model whose weights are all here (not sharded), without adapters.

    lora: the adapters that it will get.
    """
    sizes = {size: getattr(llm.config, size) for size in SIZES}
    found = {"name": name, **sizes, **fingerprints(llm, name), "quantization": quantization_of(llm)}
    return found | {"lora": None if lora is None else lora.shape()}


def of_base(name: str) -> bool:
    """Whether an entry of the module's state dict belongs to the language model as it was before the training."""
    return name.startswith(LLM) and not is_lora(name)


class WithoutBase:
    """Mixed into the task: its checkpoints leave out a frozen language model and say which one it was.

    frozen: whether it is. base_model: what describe_base says of it, None for one from scratch.
    """

    frozen: bool
    base_model: dict[str, Any] | None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.frozen:
            weights = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: value for name, value in weights.items() if not of_base(name)}
            checkpoint["base_model"] = self.base_model

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "base_model" in checkpoint:
            check_base(checkpoint["base_model"], self.base_model)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As nn.Module's, but only the weights of a frozen language model may be absent, whatever `strict` is."""
        load: Any = super().load_state_dict  # type: ignore[misc]
        if not self.frozen:
            return load(state_dict, strict=strict, assign=assign)
        keys = load(state_dict, strict=False, assign=assign)
        keys.missing_keys[:] = [name for name in keys.missing_keys if not of_base(name)]
        if keys.missing_keys or keys.unexpected_keys:
            raise RuntimeError(f"missing weights: {keys.missing_keys}, unexpected weights: {keys.unexpected_keys}")
        return keys


@torch.no_grad()
def fingerprints(llm: nn.Module, name: str) -> dict[str, str | None]:
    """Two fingerprints: `linear` of the linear layers inside the blocks, `rest` of all other weights.

    Each covers every tensor's name and shape and `SAMPLES` evenly spaced values, rounded to bfloat16, so that the same
    weights are recognised whether they were loaded in float32 or bfloat16. For quantised weights the originals in the
    files of `name` count; `linear` is None if the files do not have them.
    """
    hashes = {"linear": hashlib.sha256(), "rest": hashlib.sha256()}
    stored = None if quantization_of(llm) == "none" else StoredWeights(name)
    known = True
    for key, parameter in llm.named_parameters():
        weight = parameter.detach()
        if is_packed(parameter):
            weight = stored and stored.get(key)
        if weight is None:
            known = False
            continue
        flat = weight.flatten()
        at = torch.linspace(0, len(flat) - 1, min(SAMPLES, len(flat)), dtype=torch.float64).long()
        values = flat[at.to(flat.device)].to(torch.bfloat16).view(torch.int16).cpu().numpy()
        kind = "linear" if "_proj." in key else "rest"
        hashes[kind].update(f"{key} {tuple(weight.shape)} ".encode() + values.tobytes())
    found = {kind: digest.hexdigest()[:16] for kind, digest in hashes.items()}
    return found | {"linear": found["linear"] if known else None}


def check_base(expected: dict[str, Any] | None, found: dict[str, Any] | None) -> None:
    """Raises CheckpointError if a checkpoint's base and the language model at hand are not the same.

    The name does not matter: folders are moved. Nor does quantization, which approximates the same weights: a warning
    says that scores may differ. Another warning comes if linear layers have no fingerprint.
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
    if expected["lora"] != found["lora"]:
        raise CheckpointError(
            f"the checkpoint has {adapters.told(expected['lora'])}, and the model at hand has "
            f"{adapters.told(found['lora'])}; they must be the same"
        )
    trained = expected["quantization"]
    if trained != found["quantization"]:
        message = "the adapters were trained with task.llm.quantization=%s and are loaded with %s: scores may differ"
        log.warning(message, trained, found["quantization"])
    if expected["linear"] is None or found["linear"] is None:
        log.warning(
            "whether the language model's linear layers are those that the adapters were trained on could not be "
            "checked: their unquantised weights are not in safetensors files"
        )


def told(base: dict[str, Any]) -> str:
    sizes = f"{base['num_hidden_layers']} layers of width {base['hidden_size']}, {base['vocab_size']} tokens"
    return f"{base['name']!r} ({sizes}, weights {base['linear'] or 'quantised'}/{base['rest']})"
