"""Which language models can have the prefix, found out from a folder or hub id before its weights are read.

check_layout("models/llama-7b")         # a folder as transformers saves it
family_of("models/qwen3-8b")            # transformers' class of the model, with a prefix that its layers can read
check_tokenizer_files("models/qwen3-8b")
"""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from configs.guard import reason
from tasks.audio_description.prefix import prefixed
from tasks.audio_description.projections import attentions
from tasks.common.errors import CheckpointError

KEY = "task.llm.pretrained"
TRIED = "LLaMA 1 to 3, Mistral, Qwen2, Qwen3, SmolLM3, Gemma 1 to 3 (text), Phi-3, OLMo 2, Granite"
META = ("consolidated.*.pth", "params.json")  # LLaMA as Meta hands it out
READY = ("tokenizer.json", "tokenizer_config.json")
VOCABULARIES = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken", "tekken.json")


def check_layout(name: str) -> None:
    """Raises CheckpointError for a folder of another layout than transformers'; an id of the hub is not looked at."""
    folder = Path(name)
    if not folder.is_dir() or (folder / "config.json").is_file():
        return
    if any((*folder.glob(pattern), *folder.glob(f"*/{pattern}")) for pattern in META):
        raise CheckpointError(
            f"{KEY}: {folder} is LLaMA as Meta hands it out ({holds(folder)}), which transformers does not read. "
            "Convert it once, with src/transformers/models/llama/convert_llama_weights_to_hf.py of transformers' "
            "repository (--input_dir, --model_size, --output_dir), or take converted weights, such as "
            "huggyllama/llama-7b"
        )
    raise CheckpointError(
        f"{KEY}: {folder} has no config.json ({holds(folder)}); expected: a folder as transformers saves a model and "
        "its tokenizer (config.json, *.safetensors, tokenizer.json, tokenizer_config.json)"
    )


def check_tokenizer_files(name: str) -> None:
    """Raises CheckpointError for a folder without a tokenizer, or with one that would silently be read as another."""
    folder = Path(name)
    if not folder.is_dir():
        return
    if not any(any(folder.glob(pattern)) for pattern in VOCABULARIES):
        raise CheckpointError(
            f"{KEY}: {folder} has no tokenizer ({holds(folder)}); add the tokenizer.json and the "
            "tokenizer_config.json of the model's release"
        )
    if (folder / "tokenizer.model").is_file() and not any((folder / file).is_file() for file in READY):
        raise CheckpointError(
            f"{KEY}: {folder} has a tokenizer.model alone, from which transformers guesses other token "
            "ids; add the tokenizer_config.json of the model's release"
        )


def holds(folder: Path) -> str:
    """The first files of a folder, for messages."""
    files = sorted(path.name for path in folder.iterdir())
    return f"it holds {', '.join(files[:6])}{', ...' * (len(files) > 6)}" if files else "it is empty"


def family_of(name: str) -> tuple[type[PreTrainedModel], PretrainedConfig]:
    """The class with a prefix for the model in a folder or of the hub, and the model's configuration.

    Raises CheckpointError for a model whose layers the prefix does not fit. Only the configuration is read.
    """
    config = AutoConfig.from_pretrained(name)
    try:
        with torch.device("meta"):
            family = type(AutoModelForCausalLM.from_config(config))
            llm = prefixed(family)(config)
        if config.get_text_config() is not config:
            raise ValueError("it is made of several models")
        attentions(llm)
    except (ValueError, TypeError, AttributeError) as error:
        raise refusal(name, config, error) from None  # it explains itself
    return prefixed(family), config


def refusal(name: str, config: PretrainedConfig, error: Exception) -> CheckpointError:
    """The error for a model that cannot have the prefix."""
    return CheckpointError(
        f"{KEY}: {name!r} is a {config.model_type!r} model; the prefix goes into LLaMA-family models and other "
        f"decoders with such attention ({TRIED}): {reason(error)}"
    )
