"""Sizes of a language model from its name: enough to count its parameters and FLOPs without its weights.

>>> sizes_of("huggyllama/llama-7b")  # {"hidden_size": 4096, ..., "vocab_size": 32000}
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from configs.errors import ConfigError, listed, nearest
from tasks.audio_description.language_model import Sizes
from tasks.common.pretrained import check_files

NAMES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
B7, B13 = (4096, 11008, 32, 32, 32000), (5120, 13824, 40, 40, 32000)  # Touvron et al. 2023, table 2, and their configs
KNOWN = {
    "huggyllama/llama-7b": B7,
    "huggyllama/llama-13b": B13,
    "meta-llama/Llama-2-7b-hf": B7,
    "meta-llama/Llama-2-13b-hf": B13,
}


def sizes_of(name: str) -> dict[str, Any]:
    """Options of LlamaConfig for a folder, a known name or a hub id. ConfigError if none of them gives the sizes."""
    if name in KNOWN and not Path(name).is_dir():
        return dict(zip(NAMES, KNOWN[name], strict=True))
    check_files("task.llm.pretrained", name)
    try:
        config = AutoConfig.from_pretrained(name)
    except Exception as error:  # of many kinds, by what a config.json lacks
        raise ConfigError(
            f"task.llm.pretrained: {name!r} is neither a folder with a config.json nor known by its name"
            f"{nearest(name, KNOWN)} (known: {listed(KNOWN)}), and the hub did not answer. Give its sizes: "
            "task.llm.pretrained=null 'task.llm.config={hidden_size: 4096, ...}' task.llm.vocab_size=32000"
        ) from error
    if config.model_type != "llama":
        raise ConfigError(
            f"task.llm.pretrained: {name!r} is a {config.model_type!r} model, not a LLaMA, whose costs alone are "
            "counted; python -m scripts.memory counts the memory of any model that a run takes"
        )
    wanted = [*(field.name for field in fields(Sizes)), "vocab_size"]
    return {key: value for key in wanted if (value := getattr(config, key, None)) is not None}
