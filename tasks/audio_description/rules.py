"""Settings of audio description that do not go together, one function per rule; `validate` asks for them.

A rule gets the resolved configuration, whose types are right, and yields what to tell the user.
"""

from collections.abc import Iterator
from typing import Any


def bridge_heads_divide_width(cfg: dict[str, Any]) -> Iterator[str]:
    """The queries of the bridge attend with width / bridge_heads features per head; a bridge of tokens has no heads."""
    task = cfg["task"]
    width, heads = task.get("width"), task.get("bridge_heads")
    if task.get("bridge") == "queries" and width and heads and heads > 0 and width % heads:
        allowed = ", ".join(str(n) for n in range(1, min(width, 64) + 1) if width % n == 0)
        yield (
            f"task.bridge_heads: {heads} does not divide task.width={width} (task.bridge=queries); allowed: {allowed}"
        )


def prefix_fits_language_model(cfg: dict[str, Any]) -> Iterator[str]:
    """The prefix is read by the last layers of a language model whose size is written here, if it is from scratch."""
    llm, layers = cfg["task"].get("llm") or {}, cfg["task"].get("prefix_layers")
    there_are = (llm.get("config") or {}).get("num_hidden_layers")
    if llm.get("pretrained") is None and layers and there_are and layers > there_are:
        yield (
            f"task.prefix_layers: {layers} is more than the language model has; allowed: 1 to {there_are} "
            f"(task.llm.config.num_hidden_layers={there_are})"
        )


def language_model_heads_fit(cfg: dict[str, Any]) -> Iterator[str]:
    """In a language model from scratch each head has hidden_size / heads features, in pairs that positions rotate."""
    sizes = (cfg["task"].get("llm") or {}).get("config") or {}
    width, heads, shared = (sizes.get(name) for name in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    if width and heads and min(width, heads) > 0 and width % (2 * heads):
        yield (
            f"task.llm.config.num_attention_heads: {heads} does not divide task.llm.config.hidden_size={width} into "
            "heads of an even number of features"
        )
    if heads and shared and min(heads, shared) > 0 and heads % shared:
        yield (
            f"task.llm.config.num_key_value_heads: {shared} does not divide task.llm.config.num_attention_heads={heads}"
        )


RULES = (bridge_heads_divide_width, prefix_fits_language_model, language_model_heads_fit)
