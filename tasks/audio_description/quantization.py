"""The frozen language model's linear layers in 8 or 4 bits, by bitsandbytes (the extra `quantization`).

int8: LLM.int8() (arXiv:2208.07339), a scale per output; nf4: QLoRA's 4-bit numbers (arXiv:2305.14314), with a quantised
scale per 64 of them and products in bfloat16. Embeddings, norms and lm_head stay as loaded.

    tokenizer, llm = pretrained("models/llama-7b", dtype="bfloat16", frozen=True, quantization="nf4")
    quantization_of(llm)  # "nf4"
"""

import math
import sys
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor, nn
from transformers import BitsAndBytesConfig

from configs.errors import ConfigError
from datamodules.formats.json_text import read_json

Quantization = Literal["none", "int8", "nf4"]


def loading_options(kind: Quantization) -> dict[str, Any]:
    """Keywords of from_pretrained; none for "none". Raises ConfigError if bitsandbytes is not installed.

    Weights are quantised on the CPU, layer by layer, wherever they go afterwards: the rank's GPU is not known yet.
    """
    if kind == "none":
        return {}
    try:
        import accelerate  # noqa: F401 - transformers asks for it
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"task.llm.quantization: {kind} needs bitsandbytes and accelerate ({error}): "
            "pip install 'lcaam[quantization]', or task.llm.quantization=none"
        ) from error
    options = {"llm_int8_skip_modules": ["lm_head"]}  # read for 4 bits as well, in spite of its name
    if kind == "int8":
        options |= {"load_in_8bit": True}
    else:
        options |= {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
        options |= {"bnb_4bit_compute_dtype": torch.bfloat16}
    return {"quantization_config": BitsAndBytesConfig(**options), "device_map": {"": "cpu"}}


def quantization_of(llm: nn.Module) -> str:
    """The quantization of a model: none, int8, nf4, or another one in which a folder stores its weights."""
    stored = getattr(getattr(llm, "config", None), "quantization_config", None)
    if stored is None:
        return "none"
    if getattr(stored, "load_in_8bit", False):
        return "int8"
    return getattr(stored, "bnb_4bit_quant_type", None) or str(getattr(stored, "quant_method", "unknown"))


def check_quantised(llm: nn.Module, kind: Quantization) -> None:
    """Raises RuntimeError if the linear layers inside the blocks are not all of the kind that was asked for.

    A release of transformers or of bitsandbytes that leaves them as they are would take four times the memory, unseen.
    """
    if kind == "none":
        return
    expected = layer_class(kind)
    linear = {n: m for n, m in llm.named_modules() if isinstance(m, nn.Linear) and m is not llm.get_output_embeddings()}
    others = [name for name, module in linear.items() if not isinstance(module, expected)]
    if others or not linear:
        raise RuntimeError(
            f"task.llm.quantization: {kind} was asked for, and {len(others)} of {len(linear)} linear layers are not "
            f"{expected.__name__} of bitsandbytes ({', '.join(others[:3])}): use releases of docs/versions.md"
        )


def layer_class(kind: str) -> type[nn.Module]:
    """bitsandbytes' linear layer of 8 or 4 bits."""
    import bitsandbytes

    return bitsandbytes.nn.Linear8bitLt if kind == "int8" else bitsandbytes.nn.Linear4bit


def tame(llm: nn.Module) -> None:
    """Lets bitsandbytes' layers be moved, evaluated and trained like others.

    int8 layers compute with a second reference to their weights, and with scales. `module.to(device)` of a module
    around them does not move these. 4-bit layers repack their weights, and round the scales again, when they are first
    evaluated on a CPU with AVX512-BF16; from then on no gradient would pass them, also in training.

    Models that are not quantised, or not by bitsandbytes, are left alone. RuntimeError if a model of int8 or 4-bit
    weights has no such layer of this release of bitsandbytes: then this function would have no effect.
    """
    kind = quantization_of(llm)
    if kind not in ("int8", "fp4", "nf4"):
        return
    layer = layer_class(kind)
    layers = [module for module in llm.modules() if isinstance(module, layer)]
    if not layers:
        raise RuntimeError(f"a model of {kind} weights without any {layer.__name__} of this release of bitsandbytes")
    for module in layers:
        if kind == "int8":
            module.register_forward_pre_hook(_fetch)
        elif hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _fetch(module: nn.Module, inputs: tuple) -> None:
    weight = module.weight
    for holder in (weight, module.state):
        if holder.CB is not None and holder.CB.device != weight.device:
            holder.CB, holder.SCB = weight.data, holder.SCB.to(weight.device)


def is_packed(parameter: nn.Parameter) -> bool:
    """Whether a parameter holds quantised weights."""
    packed: Any = sys.modules.get("bitsandbytes")
    kinds = () if packed is None else (packed.nn.Int8Params, packed.nn.Params4bit)
    return not parameter.is_floating_point() or isinstance(parameter, kinds)


def values_in(parameter: nn.Parameter) -> int:
    """How many weights a parameter holds: two 4-bit weights share a byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)


class StoredWeights:
    """Tensors of a folder or hub id as they were before quantisation, read one by one.

    get: the tensor of a name; None if the weights are not in safetensors files, or are stored quantised.
    """

    def __init__(self, name: str):
        folder = Path(name)
        if not folder.is_dir():  # loaded before, so no longer on the hub alone
            folder = Path(snapshot_download(name, allow_patterns="*.safetensors*", local_files_only=True))
        index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
        self.files: dict[str, Path] = {}
        if index.is_file():
            self.files = {key: folder / file for key, file in read_json(index)["weight_map"].items()}
        elif single.is_file():
            with safe_open(single, "pt") as file:
                self.files = dict.fromkeys(file.keys(), single)

    def get(self, name: str) -> Tensor | None:
        if name not in self.files:
            return None
        with safe_open(self.files[name], "pt") as file:
            tensor = file.get_tensor(name)
        return tensor if tensor.is_floating_point() else None
