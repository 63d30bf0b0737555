"""What takes the place of data and of downloads, so that a model can be built and run anywhere: facts, batches, words.

    facts_of(cfg)                     what the data module would tell the task, read from the configuration
    batch_of(cfg, facts, words=50)    a batch of one sample by the data module's contract, random numbers
    vocabulary(32000, ...)            a tokenizer of exactly that size, a word a token

Sizes are the configuration's, contents are not: no score of such a model means anything. Generated data
(scale=mini, scale=smoke) are the real thing, and need no stand-in.
"""

from typing import Any

import torch
from omegaconf import DictConfig
from tokenizers import Tokenizer, models, pre_tokenizers

from configs.errors import ConfigError, listed
from tasks.common.build import build

TEXTS = ["a word"]
CLASSES = 1000  # of ImageNet-1K; another image folder's are in its files
NONE_SKIPPED = {"train": 0, "val": 0, "test": 0}
PATCH = (2, 32)  # frames and pixels a side that make one of Video Swin's tokens


def is_generated(cfg: DictConfig) -> bool:
    """The data are made by a generator of this project, so that real facts and batches can be had anywhere."""
    return cfg.data.get("mini") is not None


def madv2(data: DictConfig) -> dict[str, Any]:
    facts = {name: data[name] for name in ("video_dim", "audio_dim", "tokens", "previous", "previous_count")}
    return facts | {"subtitles": data.subtitles is not None, "train_texts": TEXTS}


def qvhighlights(data: DictConfig) -> dict[str, Any]:
    return build(data).facts()  # it reads no file


def imagenet1k(data: DictConfig) -> dict[str, Any]:
    facts = {"classes": CLASSES, "image_size": data.image_size, "class_names": None}
    return facts | {"train_counts": [1] * CLASSES, "skipped": NONE_SKIPPED}


def msrvtt(data: DictConfig) -> dict[str, Any]:
    grid = width = None
    if data.source == "features":  # the files say how many rows they have; SwinBERT's have as many as its backbone's
        grid, width = -(-data.frames // PATCH[0]) * (-(-data.image_size // PATCH[1])) ** 2, data.features.dim
    facts = {"frames": data.frames, "image_size": data.image_size, "grid": grid, "feature_dim": width}
    return facts | {"train_texts": TEXTS, "skipped": NONE_SKIPPED}


def madv2_batch(facts: dict[str, Any], words: int) -> dict[str, Any]:
    tokens, keep = facts["tokens"], torch.ones(1, facts["tokens"], dtype=torch.bool)
    batch = {"video": torch.randn(1, tokens, facts["video_dim"]), "audio": torch.randn(1, tokens, facts["audio_dim"])}
    batch |= {"video_keep": keep, "audio_keep": keep, "text": [sentence(words)], "ann_id": ["0"], "movie": ["a movie"]}
    batch |= {name: torch.tensor([second], dtype=torch.float64) for name, second in (("start", 0), ("end", 5))}
    context = {"previous": facts["previous"] != "none", "subtitles": facts["subtitles"]}
    return batch | {name: [[]] for name, given in context.items() if given}  # `words` fills up what it leaves


def qvhighlights_batch(facts: dict[str, Any], words: int) -> dict[str, Any]:
    batch = {}
    for name, length, width in (("video", facts["clips"], "video_dim"), ("text", facts["tokens"], "text_dim")):
        batch[name] = torch.randn(1, length, facts[width])
        batch[f"{name}_keep"] = torch.ones(1, length, dtype=torch.bool)
    row = {"qid": 0, "query": sentence(words), "vid": "a video", "duration": facts["duration"]}
    return batch | {"spans": [torch.tensor([[0.5, 0.2]])], "annotation": [row]}


def imagenet1k_batch(facts: dict[str, Any], words: int) -> dict[str, Any]:
    size = facts["image_size"]
    return {"image": torch.randn(1, 3, size, size), "label": torch.zeros(1, dtype=torch.long), "name": ["an image"]}


def msrvtt_batch(facts: dict[str, Any], words: int) -> dict[str, Any]:
    text = sentence(words)
    batch = {"caption": [text], "references": [[text]], "video": ["a video"]}
    if facts["grid"] is not None:
        return batch | {"features": torch.randn(1, facts["grid"], facts["feature_dim"])}
    size = facts["image_size"]
    return batch | {"frames": torch.randn(1, facts["frames"], 3, size, size)}


DATA = {  # the data node's _target_ -> facts, batch
    "datamodules.audio_description.Descriptions": (madv2, madv2_batch),
    "datamodules.moment_retrieval.Moments": (qvhighlights, qvhighlights_batch),
    "datamodules.image_classification.Images": (imagenet1k, imagenet1k_batch),
    "datamodules.video_captioning.Captions": (msrvtt, msrvtt_batch),
}


def of_data(cfg: DictConfig) -> tuple:
    if cfg.data._target_ not in DATA:
        raise ConfigError(f"data._target_: nothing stands in for {cfg.data._target_}; there is for {listed(DATA)}")
    return DATA[cfg.data._target_]


def facts_of(cfg: DictConfig) -> dict[str, Any]:
    """The data module's facts() as far as a model is built from them. Raises ConfigError for a data module unknown."""
    return of_data(cfg)[0](cfg.data)


def batch_of(cfg: DictConfig, facts: dict[str, Any], words: int) -> dict[str, Any]:
    """A batch of one sample, every token real, its text `words` words. Raises ConfigError as facts_of does."""
    torch.manual_seed(0)
    return of_data(cfg)[1](facts, words)


def sentence(words: int) -> str:
    return " ".join(["w9"] * words)


def vocabulary(size: int, special: list[str], unknown: str) -> Tokenizer:
    """A tokenizer with `size` entries: the special tokens first, then words; `sentence(n)` is n tokens."""
    entries = [*special, *(f"w{i}" for i in range(max(0, size - len(special))))]
    tokenizer = Tokenizer(models.WordLevel({entry: i for i, entry in enumerate(entries)}, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer
