"""The language model that writes the descriptions: pretrained and frozen, or small and trained from scratch."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from transformers import LlamaConfig, PreTrainedTokenizerBase

from tasks.audio_description.prefix import PrefixLlama
from tasks.common.errors import CheckpointError


@dataclass
class Sizes:
    """Of a language model from scratch: options of transformers' LlamaConfig; None is its default, LLaMA-7B's."""

    hidden_size: int | None = None
    intermediate_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    num_key_value_heads: int | None = None
    max_position_embeddings: int | None = None
    initializer_range: float | None = None
    tie_word_embeddings: bool | None = None


@dataclass
class LanguageModel:
    """The task node's `llm`.

    pretrained: folder or hub id of a LLaMA-family model with its tokenizer; None trains one from scratch.
    dtype, frozen: of a pretrained one. config, vocab_size (at most): of one from scratch.
    """

    pretrained: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    frozen: bool = True
    config: Sizes | None = None
    vocab_size: int | None = None


@dataclass
class Decoding:
    """Options of transformers' `generate`; None is its default."""

    max_new_tokens: int = 64
    min_new_tokens: int | None = None
    do_sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    early_stopping: bool | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise ValueError(f"decoding.max_new_tokens must be at least 1, got {self.max_new_tokens}")

    def options(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def from_scratch(sizes: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> PrefixLlama:
    """A randomly initialised LLaMA with the tokenizer's vocabulary. Raises ValueError for sizes that do not fit."""
    options = {name: value for name, value in asdict(Sizes(**sizes)).items() if value is not None}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    config = LlamaConfig(vocab_size=len(tokenizer), **ids, **options)
    if config.hidden_size % config.num_attention_heads:
        heads, width = config.num_attention_heads, config.hidden_size
        raise ValueError(f"llm.config: num_attention_heads={heads} does not divide hidden_size={width}")
    return PrefixLlama(config)


def pretrained(name: str, dtype: str, frozen: bool) -> tuple[PreTrainedTokenizerBase, PrefixLlama]:
    """The tokenizer and the language model of a LLaMA-family folder or hub id.

    Raises CheckpointError where it cannot be found or loaded, or its tokenizer marks no beginning of a sentence.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = PrefixLlama.from_pretrained(name, dtype=dtype)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"task.llm.pretrained: {name!r} is neither a folder with a LLaMA-family model and its tokenizer nor one "
            f"that can be fetched from the hub ({str(error).splitlines()[0]})"
        ) from error
    if tokenizer.bos_token_id is None:
        raise CheckpointError(f"the tokenizer of {name!r} has no beginning-of-sentence token; descriptions need one")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer, model.requires_grad_(not frozen)
