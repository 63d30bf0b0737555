"""What attention costs on the GPUs that were measured, so that `auto` can take the fastest backend there.

`python -m scripts.benchmark attention --device cuda --costs` writes gpu_costs.json: by architecture, rows with length,
pairs (over all heads and samples), fusion, gradients and the seconds of each backend. A GPU whose architecture it does
not have gets the rules of choice.py, and never a kernel that was not run on it.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import torch

from lcaam.fusion import Fusion

FILE = Path(__file__).with_name("gpu_costs.json")


def rows_of(device: torch.device) -> list[dict[str, Any]]:
    """The measured costs on a device; empty for one that was not measured."""
    return gpu_costs().get(architecture(device), []) if device.type == "cuda" else []


def architecture(device: torch.device) -> str:
    """sm_90 for example."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


@cache
def gpu_costs() -> dict[str, list[dict[str, Any]]]:
    """The rows by architecture."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def fastest(
    known: list[dict[str, Any]], able: list[str], length: int, pairs: int, fusion: Fusion, learns: bool
) -> tuple[str, str]:
    """The able backend that was fastest at the nearest size that was measured; and the reason in words."""
    alike = "mul" if fusion.multiplies else "add"
    names = {row["fusion"] for row in known}
    rows = [row for row in known if row["fusion"] == (fusion.name if fusion.name in names else alike)]

    def distance(row: dict[str, Any]) -> tuple[bool, float]:
        return row["gradients"] != learns, abs(math.log(row["pairs"] / pairs)) + abs(math.log(row["length"] / length))

    row = min((one for one in rows if any(name in one["seconds"] for name in able)), key=distance)
    seconds = {name: row["seconds"][name] for name in able if name in row["seconds"]}
    best = min(seconds, key=seconds.__getitem__)
    others = ", ".join(f"{name} {value / seconds[best]:.2f} x" for name, value in seconds.items() if name != best)
    where = f"{row['length']} tokens, {row['pairs']} pairs, fusion {row['fusion']}"
    return best, f"the fastest at {where}, the nearest size that was measured{f'; {others}' if others else ''}"
