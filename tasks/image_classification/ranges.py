"""Which numbers the recipe's knobs allow, where their type alone allows too many.

>>> check({"ema": 1.5})  # ConfigError: "task.ema: 1.5 is out of range; allowed: ..."
"""

import math
from collections.abc import Mapping
from typing import Any

from configs.errors import ConfigError


def within(low: float, high: float, *, open_low: bool = False, open_high: bool = False) -> tuple:
    """(test, its words) for an interval; an open end is not in it."""
    words = f"{'above' if open_low else 'at least'} {low:g} and {'below' if open_high else 'at most'} {high:g}"
    return lambda x: (low < x if open_low else low <= x) and (x < high if open_high else x <= high), words


SHARE, PROBABILITY = within(0, 1, open_high=True), within(0, 1)
NOT_NEGATIVE = (lambda x: 0 <= x < math.inf, "a finite number, at least 0")
ALLOWED = {
    "drop_path": SHARE,
    "layer_decay": within(0, 1, open_low=True),
    "mixup": NOT_NEGATIVE,
    "cutmix": NOT_NEGATIVE,
    "mix_probability": PROBABILITY,
    "mix_switch": PROBABILITY,
    "smoothing": SHARE,
    "ema": within(0, 1, open_low=True, open_high=True),
}


def check(task: Mapping[str, Any]) -> None:
    """Raises ConfigError that lists every number of the task's settings which is out of its range."""
    problems = [
        f"task.{name}: {task[name]} is out of range; allowed: {allowed}"
        for name, (allows, allowed) in ALLOWED.items()
        if task.get(name) is not None and not allows(task[name])
    ]
    if problems:
        raise ConfigError("\n".join(problems))
