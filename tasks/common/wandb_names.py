"""Names that W&B can sort, filter and group by: letters, digits, `_`, and `/` between a section and a name.

    wandb_name("test/R1@0.5")            "test/R1_at_0_5"
    wandb_name("test/R@5/16[rougeL]")    "test/R_at_5_of_16_rougeL"
    wandb_name("analysis/layer 1/rank")  "analysis/layer_1/rank"

Files of a run (results.json, metrics.csv) keep the names as the field writes them.
"""

import re
from collections.abc import Iterable


def wandb_name(name: str) -> str:
    """The name under which W&B gets a metric. A name that W&B can use stays as it is."""
    name = re.sub(r"(?<=\d)/(?=\d)", "_of_", name)  # before a metric's own slash becomes a section
    name = re.sub(r"\[([^\]]*)\]", r"_\1", name).replace("@", "_at_")
    return re.sub(r"[^A-Za-z0-9_/]", "_", name)


def clashes(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of different names that W&B would get as one."""
    seen: dict[str, str] = {}
    return [
        (first, name) for name in dict.fromkeys(names) if (first := seen.setdefault(wandb_name(name), name)) != name
    ]
