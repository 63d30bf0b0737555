"""Which numbers each knob allows, where its type alone allows too many. A rule looks only at keys that are there.

data.fps=0  ->  "data.fps: 0 is out of range; allowed: a finite number above 0"
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LARGEST_SEED = 2**32 - 1  # NumPy's generators take no larger one


def share(value: float) -> bool:
    """In [0, 1)."""
    return 0 <= value < 1


def interval(value: Any) -> bool:
    """Lightning's val_check_interval: batches, or a share of the epoch; other types are Lightning's own business."""
    if isinstance(value, int):
        return value >= 1
    return not isinstance(value, float) or 0 < value <= 1


SEED = (lambda seed: 0 <= seed <= LARGEST_SEED, f"0 to {LARGEST_SEED}")
ABOVE_ZERO = (lambda value: 0 < value < math.inf, "a finite number above 0")
NOT_NEGATIVE = (lambda value: 0 <= value < math.inf, "a finite number, at least 0")
COUNT = (lambda value: value >= 1, "at least 1")
SPOKEN = (lambda value: value >= 3, "at least 3: [CLS], a word, [SEP]")
COUNTS = (lambda values: all(value >= 1 for value in values), "numbers of at least 1")
SHARE = (share, "at least 0 and below 1")

LLAMA_COUNTS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
LLAMA_COUNTS += ("max_position_embeddings",)

RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "seed": SEED,
    "data.seed": SEED,
    "data.fps": ABOVE_ZERO,
    "data.eval_batch_size": COUNT,
    "data.num_workers": NOT_NEGATIVE,
    "data.previous_count": COUNT,
    "data.subtitle_seconds": ABOVE_ZERO,
    "task.lr": ABOVE_ZERO,
    "task.betas": (
        lambda betas: len(betas) == 2 and all(map(share, betas)),
        "two numbers, each at least 0 and below 1",
    ),
    "task.weight_decay": NOT_NEGATIVE,
    "task.warmup": SHARE,
    "task.dropout": SHARE,
    "task.input_dropout": SHARE,
    "task.queries": COUNT,
    "task.text_to_video_layers": COUNT,
    "task.encoder_layers": COUNT,
    "task.decoder_layers": COUNT,
    **{f"task.losses.{term}": NOT_NEGATIVE for term in ("span", "giou", "label", "saliency", "background", "margin")},
    "task.losses.temperature": ABOVE_ZERO,
    "task.losses.levels": COUNT,
    "task.prefix_layers": COUNT,
    "task.bridge_heads": COUNT,
    "task.bridge_layers": COUNT,
    "task.prompts": COUNT,
    "task.prompt_std": NOT_NEGATIVE,
    "task.position_base": ABOVE_ZERO,
    "task.position_scale": NOT_NEGATIVE,
    "task.llm.vocab_size": COUNT,
    **{f"task.llm.config.{name}": COUNT for name in LLAMA_COUNTS},
    "mask.sparsity": NOT_NEGATIVE,
    "task.vocab_size": COUNT,
    "task.text_tokens": SPOKEN,
    "task.positions": SPOKEN,
    "task.video_dim": COUNT,
    "task.mask_probability": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "task.most_masked": COUNT,
    "task.decoding.num_beams": COUNT,
    "task.decoding.max_length": (lambda value: value >= 2, "at least 2: [CLS] and [SEP]"),
    "task.decoding.length_penalty": (math.isfinite, "a finite number"),
    "task.backbone.embed_dim": COUNT,
    "task.backbone.depths": COUNTS,
    "task.backbone.heads": COUNTS,
    "task.backbone.window": (
        lambda window: len(window) == 3 and all(side >= 1 for side in window),
        "three numbers of at least 1: time, rows, columns",
    ),
    "task.backbone.drop_path": SHARE,
    "task.backbone.lr": NOT_NEGATIVE,
    "trainer.val_check_interval": (interval, "at least 1 batch, or a share of the epoch above 0.0 and at most 1.0"),
}


def out_of_range(cfg: Mapping[str, Any]) -> Iterator[str]:
    """What to tell the user about every number of a resolved configuration that is not allowed."""
    for path, (allows, allowed) in RANGES.items():
        *nodes, key = path.split(".")
        node = cfg
        for name in nodes:
            node = node.get(name) or {}
        value = node.get(key)
        if isinstance(value, (int, float, list, tuple)) and not allows(value):
            yield f"{path}: {value} is out of range; allowed: {allowed}"
