"""The language model that writes the descriptions: pretrained and frozen, or small and trained from scratch.

tokenizer, llm = pretrained("huggyllama/llama-7b", dtype="bfloat16", frozen=True)
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from transformers import (
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from configs.errors import ConfigError
from configs.knobs import Count
from tasks.audio_description.family import KEY, check_layout, check_tokenizer_files, family_of, refusal
from tasks.audio_description.lora import LoRA
from tasks.audio_description.prefix import PrefixLlama
from tasks.audio_description.projections import check_projections
from tasks.audio_description.quantization import Quantization, check_quantised, loading_options, tame
from tasks.common.errors import CheckpointError
from tasks.common.pretrained import WEIGHTS, check_files, from_pretrained, within

log = logging.getLogger(__name__)

LLAMA_7B = {  # Touvron et al. 2023, table 2, and its config.json; as many key-value heads as heads
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
}


@dataclass
class Sizes:
    """Sizes of a language model from scratch: options of transformers' LlamaConfig; None is LLaMA-7B's value."""

    hidden_size: Count | None = None
    intermediate_size: Count | None = None
    num_hidden_layers: Count | None = None
    num_attention_heads: Count | None = None
    num_key_value_heads: Count | None = None
    max_position_embeddings: Count | None = None
    initializer_range: float | None = None
    tie_word_embeddings: bool | None = None


@dataclass
class LanguageModel:
    """The task node's `llm`.

    pretrained: folder or hub id of a decoder (LLaMA, Mistral, Qwen, Gemma, ...) with its tokenizer; None trains a LLaMA
        from scratch.
    dtype, frozen: options of a pretrained model. A frozen one is neither in the optimiser nor in checkpoints.
    gradient_checkpointing: keep one activation per layer and compute the others again in the backward pass.
    quantization, lora: for a pretrained, frozen model (quantization.py, lora.py); lora may be given as a mapping.
    config, vocab_size (at most): sizes of a model from scratch.
    Raises ConfigError if quantization or lora are given for another model.
    """

    pretrained: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    frozen: bool = True
    gradient_checkpointing: bool = False
    quantization: Quantization = "none"
    lora: LoRA | None = None
    config: Sizes | None = None
    vocab_size: Count | None = None

    def __post_init__(self):
        if isinstance(self.lora, Mapping):
            self.lora = LoRA(**self.lora)
        asked = {f"quantization={self.quantization}": "quantization=none"} if self.quantization != "none" else {}
        asked |= {"lora": "lora=null"} if self.lora is not None else {}
        if asked and (self.pretrained is None or not self.frozen):
            given, without = next(iter(asked.items()))
            has = "pretrained=null" if self.pretrained is None else "frozen=false"
            raise ConfigError(
                f"task.llm.{given} with task.llm.{has}: it belongs to a pretrained, frozen language model; choose "
                f"task.llm.pretrained=<folder or hub id> task.llm.frozen=true, or task.llm.{without}"
            )


def from_scratch(sizes: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> PrefixLlama:
    """A randomly initialised LLaMA with the tokenizer's vocabulary. Raises ValueError for sizes that do not fit."""
    options = {name: value for name, value in asdict(Sizes(**sizes)).items() if value is not None}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = LlamaConfig(vocab_size=len(tokenizer), **ids, **LLAMA_7B | options)
    if config.hidden_size % config.num_attention_heads:
        heads, width = config.num_attention_heads, config.hidden_size
        raise ValueError(f"llm.config: num_attention_heads={heads} does not divide hidden_size={width}")
    return PrefixLlama(config)


def pretrained(
    name: str, dtype: str, frozen: bool, quantization: Quantization = "none", prefix_layers: int = 1
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """The tokenizer and the language model, with a prefix (prefix.WithPrefix), of a folder or hub id.

    The folder's own decoding defaults are dropped: task.decoding sets all options.
    prefix_layers: how many layers it must have at least.
    Raises CheckpointError if the model cannot be found or loaded, is none that the prefix fits, or lacks weights or
    layers; if its tokenizer lacks a token that descriptions need, or knows more tokens than the model; and if it is to
    be quantised but is stored quantised already. Raises ConfigError if bitsandbytes or accelerate is not installed.
    """
    options, what = loading_options(quantization), "a language model and its tokenizer"
    check_files(KEY, name)
    check_layout(name)
    with from_pretrained(KEY, name, what, "config.json"):
        family, config = family_of(name)
    if quantization != "none" and getattr(config, "quantization_config", None) is not None:
        raise CheckpointError(
            f"task.llm.quantization: {quantization}, and {name!r} is stored quantised; allowed: its unquantised "
            "original, or task.llm.quantization=none, which takes it as it is stored"
        )
    check_tokenizer_files(name)
    with from_pretrained(KEY, name, what, "tokenizer*", "special_tokens_map.json"):
        tokenizer = AutoTokenizer.from_pretrained(name)
    with from_pretrained(KEY, name, what, "config.json", "generation_config.json", *WEIGHTS):
        model, found = family.from_pretrained(name, dtype=dtype, output_loading_info=True, **options)
    if prefix_layers > (there_are := model.config.num_hidden_layers):
        raise CheckpointError(
            f"task.prefix_layers: {prefix_layers} is more than the language model has; allowed: 1 to {there_are}"
        )
    if missing := sorted(found["missing_keys"]):
        raise CheckpointError(
            f"{KEY}: {within(name, *WEIGHTS)} has no weights for {len(missing)} of the language model's "
            f"parameters ({', '.join(missing[:3])}{', ...' * (len(missing) > 3)}); they would be random"
        )
    prepare(tokenizer, config, name)
    ids = {f"{mark}_token_id": getattr(tokenizer, f"{mark}_token_id") for mark in ("bos", "eos", "pad")}
    model.generation_config = GenerationConfig(**ids)
    check_quantised(model, quantization)
    tame(model)
    try:
        check_projections(model, prefix_layers)
    except ValueError as error:
        raise refusal(name, config, error) from error
    # transformers returns it in evaluation mode, in which it would silently not checkpoint activations
    return tokenizer, model.requires_grad_(not frozen).train()


def prepare(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, name: str) -> None:
    """Gives the tokenizer the tokens that descriptions need, in place.

    Qwen and some others begin no sentence: their beginning is the token that their configuration names, or the one that
    ends texts and so stood between them in training. CheckpointError if a token is missing, or if the tokenizer belongs
    to another model.
    """
    words = within(name, "tokenizer*")
    if tokenizer.eos_token_id is None:
        raise CheckpointError(f"the tokenizer of {words} has no end-of-sentence token; descriptions need one")
    if tokenizer.bos_token_id is None:
        if config.model_type == "llama":  # trained with one; it would answer all the same, only worse
            raise CheckpointError(f"the tokenizer of {words} has no beginning-of-sentence token; descriptions need one")
        given = config.bos_token_id
        tokenizer.bos_token = tokenizer.eos_token if given is None else tokenizer.convert_ids_to_tokens(given)
        log.info("the tokenizer of %s has no beginning of sentence: texts begin with %s", words, tokenizer.bos_token)
    if tokenizer.pad_token_id is None:
        # LLaMA has none; the token used instead is masked out and never counts in a loss
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    if len(tokenizer) > config.vocab_size:
        raise CheckpointError(
            f"the tokenizer of {words} has {len(tokenizer)} tokens and its model {config.vocab_size}: they do "
            "not belong together"
        )


def checkpoint_activations(llm: PreTrainedModel) -> None:
    """Keeps each layer's input and computes the rest again in the backward pass.

    The reentrant form is not used: it would run the backward pass through the prefix, which all layers share, once per
    layer.
    """
    # transformers renamed it within release 5
    enable = getattr(llm, "activation_checkpointing_enable", None) or llm.gradient_checkpointing_enable
    enable({"use_reentrant": False})
