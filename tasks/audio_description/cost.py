"""What `python -m scripts.cost` asks audio description: LLaMA without its weights, and which calls to time."""

from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from configs.errors import ConfigError
from tasks.audio_description.known_sizes import sizes_of
from tasks.audio_description.language_model import checkpoint_activations
from tasks.audio_description.lora import LoRA, add_lora
from tasks.audio_description.prefix import CACHE
from tasks.audio_description.tokenizer import SPECIAL
from tasks.common.cost import Calls, CostHooks, vocabulary


def prepare(task: DictConfig, has_texts: bool) -> dict[str, Any]:
    if has_texts and task.llm.get("pretrained") is None:
        return {}
    if task.llm.get("pretrained") is not None:
        sizes = sizes_of(task.llm.pretrained)
        size = sizes.pop("vocab_size")
    else:
        sizes, size = task.llm.config, task.llm.vocab_size or 512
    task.llm = {"config": sizes}
    return {"tokenizer": vocabulary(size, list(SPECIAL.values()), SPECIAL["unk_token"]).to_str()}


def shrink(task: DictConfig) -> None:
    """A language model of one thin layer; its width stays, which the bridge has to fit."""
    llm = task.llm
    width = sizes_of(llm.pretrained)["hidden_size"] if llm.pretrained is not None else llm.config.hidden_size
    config = {"hidden_size": width, "num_hidden_layers": 1, "intermediate_size": 1, "num_attention_heads": 1}
    task.llm = {"config": config, "vocab_size": 16}


def read_length(module: nn.Module, batch: dict) -> int:
    """Tokens that the language model reads in a teacher-forced pass, the prompt included."""
    lengths = []
    hook = module.model.llm.register_forward_pre_hook(
        lambda _, args, keywords: lengths.append(keywords["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        with torch.no_grad():
            module.sentence_loss(batch)
    finally:
        hook.remove()
    return lengths[0]


def words(module: nn.Module, batch: dict, tokens: int) -> int:
    """The number of words that fit into `tokens` behind the prompt. ConfigError if none fits."""
    least = read_length(module, batch)
    if tokens < least:
        raise ConfigError(f"--tokens {tokens}: the prompt and one word are {least} tokens; give at least as many")
    return 1 + tokens - least


def encoder_call(module: nn.Module, batch: dict) -> Calls:
    keep = torch.cat([batch["video_keep"], batch["audio_keep"]], 1)
    return {"encoder": lambda: module.model.encoder(batch["video"], batch["audio"], keep)}


def calls(module: nn.Module, batch: dict) -> Calls:
    """A teacher-forced pass; the encoder alone; decoding: the pass that fills the cache, then a token from it."""
    llm, kept = module.model.llm, {}
    ids = torch.full((1, read_length(module, batch)), llm.config.bos_token_id, device=module.device)

    def prefill() -> None:
        prefix = module.prefix(batch)
        kept.update(prefix=prefix, past=llm(input_ids=ids, use_cache=True, **prefix)[CACHE])

    def token() -> None:  # the cache grows by one each time, as it does in decoding
        if not kept:
            prefill()
        llm(input_ids=ids[:, :1], use_cache=True, **{CACHE: kept["past"]}, **kept["prefix"])

    timed = {"forward": lambda: module.sentence_loss(batch), **encoder_call(module, batch)}
    return timed | {"prefill": prefill, "token": token}


def precision(module: nn.Module, task: DictConfig) -> None:
    """A pretrained language model is loaded in `dtype`, everything else stays float32."""
    if task.llm.pretrained is not None and task.llm.dtype != "auto":
        module.model.llm.to(getattr(torch, task.llm.dtype))


def training(module: nn.Module, task: DictConfig) -> None:
    """A pretrained language model is frozen, has adapters, or keeps few activations, as its settings say."""
    llm, node = module.model.llm, task.llm
    if node.pretrained is not None and node.frozen:
        llm.requires_grad_(False)
        module.frozen = True
    if node.gradient_checkpointing:
        checkpoint_activations(llm)
    if node.lora is not None:
        add_lora(llm, LoRA(**node.lora))


HOOKS = CostHooks(
    root=lambda module: module.model,
    calls=calls,
    prepare=prepare,
    words=words,
    part=encoder_call,
    shrink=shrink,
    precision=precision,
    training=training,
)
