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
SHARE = (share, "at least 0 and below 1")

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
