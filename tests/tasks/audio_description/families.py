"""Small language models of many families, with random weights, saved as folders with a tokenizer."""

import pytest
import torch
import transformers as hf
from huggingface_hub.errors import StrictDataclassFieldValidationError

from tasks.audio_description.tokenizer import train
from tests.tasks.audio_description.test_module import SENTENCES

WIDTH, LAYERS, HEADS, WINDOW = 32, 4, 4, 4
TOKENS = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
SIZES = dict(hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=LAYERS, num_attention_heads=HEADS)
SIZES |= dict(num_key_value_heads=2, max_position_embeddings=96, initializer_range=0.3, **TOKENS)
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 32}
WIDE = dict(head_dim=16)  # heads that are together wider than the model
GEMMA = WIDE | dict(query_pre_attn_scalar=24, sliding_window=WINDOW)

# transformers' class, its configuration's class, and what is particular to it
FAMILIES = {
    "llama": (hf.LlamaForCausalLM, hf.LlamaConfig, dict(num_key_value_heads=HEADS)),
    "llama 3": (hf.LlamaForCausalLM, hf.LlamaConfig, dict(rope_parameters=LLAMA3, tie_word_embeddings=True)),
    "mistral": (hf.MistralForCausalLM, hf.MistralConfig, dict(sliding_window=WINDOW)),
    "qwen2": (
        hf.Qwen2ForCausalLM,
        hf.Qwen2Config,
        dict(use_sliding_window=True, sliding_window=WINDOW, max_window_layers=3, bos_token_id=None),
    ),
    "qwen3": (hf.Qwen3ForCausalLM, hf.Qwen3Config, dict(**WIDE, bos_token_id=None)),
    "smollm3": (hf.SmolLM3ForCausalLM, hf.SmolLM3Config, dict(no_rope_layer_interval=2)),
    "gemma": (hf.GemmaForCausalLM, hf.GemmaConfig, WIDE),
    "gemma 2": (hf.Gemma2ForCausalLM, hf.Gemma2Config, GEMMA | dict(attn_logit_softcapping=2.0)),
    "gemma 3": (hf.Gemma3ForCausalLM, hf.Gemma3TextConfig, GEMMA | dict(sliding_window_pattern=2)),
    "phi3": (hf.Phi3ForCausalLM, hf.Phi3Config, dict(sliding_window=WINDOW)),
    "olmo2": (hf.Olmo2ForCausalLM, hf.Olmo2Config, {}),
    "granite": (hf.GraniteForCausalLM, hf.GraniteConfig, dict(attention_multiplier=0.3)),
}
BEGINS_NO_SENTENCE = ("qwen2", "qwen3")
OTHERS = {  # decoders that the prefix does not fit, and why
    "gpt2": (
        hf.GPT2LMHeadModel,
        hf.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=20, **TOKENS),
        "it has .*c_attn",
    ),
    "gpt_neox": (
        hf.GPTNeoXForCausalLM,
        hf.GPTNeoXConfig(**{k: v for k, v in SIZES.items() if k != "num_key_value_heads"}, vocab_size=20),
        "it has dense, query_key_value",
    ),
    "gpt_oss": (
        hf.GptOssForCausalLM,
        hf.GptOssConfig(**SIZES, **WIDE, vocab_size=20, num_local_experts=2, num_experts_per_tok=1),
        "adds s_aux to its scores",
    ),
}


def model_of(family, vocab_size, **changes):
    """A random model of transformers' own class."""
    kind, configuration, own = FAMILIES[family]
    try:
        sizes = configuration(**SIZES | own | changes, vocab_size=vocab_size)
    except StrictDataclassFieldValidationError as error:
        pytest.skip(f"this transformers cannot make a {configuration.__name__} ({error.__cause__})")
    torch.manual_seed(0)
    return kind(sizes)


def folder_of(path, family, **changes):
    """The model with its tokenizer, which begins no sentence if the family's does not."""
    tokenizer = train(SENTENCES)
    model_of(family, len(tokenizer), **changes).save_pretrained(path)
    if family in BEGINS_NO_SENTENCE:
        tokenizer.bos_token = None
    tokenizer.save_pretrained(path)
    return path
