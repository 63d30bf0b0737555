"""What `python -m scripts.cost` asks video captioning: SwinBERT without its weights, and which call to time."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tokenizers import processors
from torch import nn

from tasks.common.cost import Calls, CostHooks, vocabulary
from tasks.video_captioning.tokenizer import SPECIAL, encode, pretrained

BERT_VOCABULARY = {"bert-base-uncased": 30522, "google-bert/bert-base-uncased": 30522}


def prepare(task: DictConfig, has_texts: bool) -> dict[str, Any]:
    task.bert, named, size = None, task.tokenizer, task.vocab_size
    if task.backbone:
        task.backbone.weights = None
    if has_texts and named is None:
        return {}
    if named is not None:
        known = named in BERT_VOCABULARY and not Path(named).is_dir()
        size, task.tokenizer = BERT_VOCABULARY[named] if known else len(pretrained(named)), None
    tokenizer = vocabulary(size, list(SPECIAL.values()), SPECIAL["unk_token"])
    first, last = ((SPECIAL[name], tokenizer.token_to_id(SPECIAL[name])) for name in ("cls_token", "sep_token"))
    tokenizer.post_processor = processors.BertProcessing(last, first)
    return {"tokenizer_json": tokenizer.to_str()}


def calls(module: nn.Module, batch: dict) -> Calls:
    ids, keep = encode(module.tokenizer, batch["caption"], module.model.text_tokens)
    ids, keep = ids.to(module.device), keep.to(module.device)
    return {"forward": lambda: module.model(module.features(batch), ids, keep)}


HOOKS = CostHooks(
    root=lambda module: module.model,
    calls=calls,
    prepare=prepare,
    words=lambda module, batch, tokens: module.model.text_tokens - 2,  # and [CLS] and [SEP]
)
