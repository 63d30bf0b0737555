"""What profiling has to know of each task: how to build it without downloads, and which calls are worth timing.

A new task needs an entry in TASKS, and its data one in stand_ins.DATA; parts() and flops(batch) are its module's own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from tokenizers import processors
from torch import nn

from configs.errors import ConfigError, listed
from scripts.cost.stand_ins import vocabulary
from tasks.audio_description.known_sizes import sizes_of
from tasks.audio_description.prefix import CACHE
from tasks.audio_description.tokenizer import SPECIAL as OF_LLAMA
from tasks.video_captioning.tokenizer import SPECIAL as OF_BERT
from tasks.video_captioning.tokenizer import encode
from tasks.video_captioning.tokenizer import pretrained as bert_tokenizer

Calls = dict[str, Callable[[], object]]
BERT_VOCABULARY = {"bert-base-uncased": 30522, "google-bert/bert-base-uncased": 30522}


def nothing(*_) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class OfTask:
    """root: of a module, the part whose children FLOPs are told of one by one.
    calls: of a module and a batch of one sample, what is timed, by name; `forward` is what flops(batch) counts.
    prepare: changes a task node that would download something; returns what the module is built with besides. Is told
        whether the data have texts that a tokenizer can be learned from.
    words: of a module, a batch with one word, and a number: how many words make the model read so many tokens.
    part, shrink: `calls` of a model that is too large to be built, after its task node was made small.
    precision: of a module and its task node as configured: puts weights into the types that a run has.
    """

    root: Callable[[nn.Module], nn.Module]
    calls: Callable[[nn.Module, dict], Calls]
    prepare: Callable[[DictConfig, bool], dict[str, Any]] = nothing
    words: Callable[[nn.Module, dict, int], int] = lambda module, batch, tokens: 1
    part: Callable[[nn.Module, dict], Calls] | None = None
    shrink: Callable[[DictConfig], object] = nothing
    precision: Callable[[nn.Module, DictConfig], object] = nothing


def of_task(cfg: DictConfig) -> OfTask:
    """Raises ConfigError for a task without an entry."""
    if cfg.task._target_ not in TASKS:
        raise ConfigError(f"task._target_: {cfg.task._target_} cannot be profiled; there are {listed(TASKS)}")
    return TASKS[cfg.task._target_]


# -- audio description ------------------------------------------------------------------------------------------------


def prepare_description(task: DictConfig, has_texts: bool) -> dict[str, Any]:
    if has_texts and task.llm.get("pretrained") is None:
        return {}
    if task.llm.get("pretrained") is not None:
        sizes = sizes_of(task.llm.pretrained)
        size = sizes.pop("vocab_size")
    else:
        sizes, size = task.llm.config, task.llm.vocab_size or 512
    task.llm = {"config": sizes}
    return {"tokenizer": vocabulary(size, list(OF_LLAMA.values()), OF_LLAMA["unk_token"]).to_str()}


def shrink_description(task: DictConfig) -> None:
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


def description_words(module: nn.Module, batch: dict, tokens: int) -> int:
    """As many as the prompt leaves of `tokens`. ConfigError where that is none."""
    least = read_length(module, batch)
    if tokens < least:
        raise ConfigError(f"--tokens {tokens}: the prompt and one word are {least} tokens; give at least as many")
    return 1 + tokens - least


def description_encoder(module: nn.Module, batch: dict) -> Calls:
    keep = torch.cat([batch["video_keep"], batch["audio_keep"]], 1)
    return {"encoder": lambda: module.model.encoder(batch["video"], batch["audio"], keep)}


def description_calls(module: nn.Module, batch: dict) -> Calls:
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

    calls = {"forward": lambda: module.sentence_loss(batch), **description_encoder(module, batch)}
    return calls | {"prefill": prefill, "token": token}


def description_precision(module: nn.Module, task: DictConfig) -> None:
    """A pretrained language model is loaded in `dtype`, everything else stays float32."""
    if task.llm.pretrained is not None and task.llm.dtype != "auto":
        module.model.llm.to(getattr(torch, task.llm.dtype))


# -- the others -------------------------------------------------------------------------------------------------------


def prepare_captioning(task: DictConfig, has_texts: bool) -> dict[str, Any]:
    task.bert, named, size = None, task.tokenizer, task.vocab_size
    if task.backbone:
        task.backbone.weights = None
    if has_texts and named is None:
        return {}
    if named is not None:
        known = named in BERT_VOCABULARY and not Path(named).is_dir()
        size, task.tokenizer = BERT_VOCABULARY[named] if known else len(bert_tokenizer(named)), None
    tokenizer = vocabulary(size, list(OF_BERT.values()), OF_BERT["unk_token"])
    first, last = ((OF_BERT[name], tokenizer.token_to_id(OF_BERT[name])) for name in ("cls_token", "sep_token"))
    tokenizer.post_processor = processors.BertProcessing(last, first)
    return {"tokenizer_json": tokenizer.to_str()}


def captioning_calls(module: nn.Module, batch: dict) -> Calls:
    ids, keep = encode(module.tokenizer, batch["caption"], module.model.text_tokens)
    ids, keep = ids.to(module.device), keep.to(module.device)
    return {"forward": lambda: module.model(module.features(batch), ids, keep)}


def prepare_classification(task: DictConfig, has_texts: bool) -> dict[str, Any]:
    task.pretrained, task.weights = False, None
    return {}


TASKS = {
    "tasks.audio_description.module.AudioDescription": OfTask(
        root=lambda module: module.model,
        calls=description_calls,
        prepare=prepare_description,
        words=description_words,
        part=description_encoder,
        shrink=shrink_description,
        precision=description_precision,
    ),
    "tasks.moment_retrieval.module.MomentRetrieval": OfTask(
        root=lambda module: module.model,
        calls=lambda module, batch: {"forward": lambda: module.predict(batch)},
    ),
    "tasks.image_classification.module.ImageClassification": OfTask(
        root=lambda module: module.evaluated,
        calls=lambda module, batch: {"forward": lambda: module(module.seen(batch))},
        prepare=prepare_classification,
    ),
    "tasks.video_captioning.module.VideoCaptioning": OfTask(
        root=lambda module: module.model,
        calls=captioning_calls,
        prepare=prepare_captioning,
        words=lambda module, batch, tokens: module.model.text_tokens - 2,  # and [CLS] and [SEP]
    ),
}
