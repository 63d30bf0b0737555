"""Settings of the language model that do not go together, one function per rule; `validate` asks for them."""

from collections.abc import Iterator
from typing import Any

from lcaam.positions import POSITIONS


def relatives_compute_the_equation(cfg: dict[str, Any]) -> Iterator[str]:
    """They change the softmax or its scores, which fused kernels do not hand out."""
    task = cfg["task"]
    relative, backend = task.get("relative", "none"), task.get("backend", "auto")
    if relative != "none" and backend not in ("auto", "reference"):
        yield (
            f"task.backend: {backend} computes softmax attention, not task.relative={relative}; allowed: auto, "
            "reference"
        )


def contextual_positions_are_the_only_ones_within_attention(cfg: dict[str, Any]) -> Iterator[str]:
    """CoPE counts positions by the scores, which rotary positions and ALiBi have changed already."""
    task = cfg["task"]
    if task.get("relative") == "cope" and task.get("positions") in POSITIONS:
        yield (
            f"task.positions: {task['positions']} with task.relative=cope, which are positions within attention too; "
            "allowed: learned, sinusoidal, none"
        )


def rotary_heads_have_pairs(cfg: dict[str, Any]) -> Iterator[str]:
    """Rotary positions turn pairs of a head's features."""
    task = cfg["task"]
    width, heads = task.get("width"), task.get("heads")
    if task.get("positions") == "rotary" and width and heads and heads > 0 and not width % heads and width // heads % 2:
        yield (
            f"task.positions: rotary turns pairs of features, and a head has {width // heads} "
            f"(task.width={width} / task.heads={heads}); choose sizes with an even number"
        )


RULES = (
    relatives_compute_the_equation,
    contextual_positions_are_the_only_ones_within_attention,
    rotary_heads_have_pairs,
)
