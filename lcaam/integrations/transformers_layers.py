"""Where a transformers model attends: its stacks of layers, each with one attention that asks for a function.

Bart, for example, has the stacks "encoder", "decoder" and "cross".

An attention is a module whose forward looks up transformers' table of attention functions. That is read from its code,
so nothing has to run, and a model that never asks is known before anything changes.
"""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

from torch import nn

from lcaam.integrations.transformers_attention import IMPLEMENTATION, UNSUPPORTED

TABLE = "ALL_ATTENTION_FUNCTIONS"  # what an attention of transformers looks its function up in
CROSS = ("encoder_hidden_states", "key_value_states")  # keywords by which keys of cross-attention arrive
CROSS_NAMES = ("cross", "encoder_attn", "encdec")  # parts of the names that models give to their cross-attention


@dataclass(frozen=True)
class Place:
    """One attention and the layer that it is in; names are paths in the model."""

    number: int  # of the layer among those of its stack, from 0
    layer: str
    attention: str


@dataclass(frozen=True)
class Stack:
    """Layers of one list, each with one attention of the same kind, in order.

    name:  what `where` calls it.
    owner: path of the module that holds the list and runs its layers, "" for the model itself.
    """

    name: str
    owner: str
    places: tuple[Place, ...]
    cross: bool


def find_stacks(model: nn.Module) -> dict[str, Stack]:
    """The stacks of a model by name: "self" for its only self-attention, else the parts of their paths that differ
    ("encoder", "decoder", "vision_model"); "cross" for cross-attention.

    Raises ValueError for a model without any, or with several attentions of one kind in a layer.
    """
    found: dict[tuple[str, bool], dict[str, list[str]]] = {}  # list and kind -> layer -> attentions
    for name, module in model.named_modules():
        parts = name.split(".")
        numbers = [place for place, part in enumerate(parts) if part.isdigit()]
        if numbers and asks(module):
            cut = numbers[-1]
            key = ".".join(parts[:cut]), is_cross(module, ".".join(parts[cut + 1 :]))
            found.setdefault(key, {}).setdefault(".".join(parts[: cut + 1]), []).append(name)
    if not found:
        raise ValueError(
            f"{type(model).__name__} has no layers whose attention asks transformers for its function (Bloom and "
            "DeBERTa-v2, for example, compute an attention of their own), so nothing would use the masks"
        )
    stacks: dict[str, Stack] = {}
    for cross in (False, True):
        lists = [path for path, kind in found if kind is cross]
        for path, name in zip(lists, names_of(lists, "cross" if cross else "self"), strict=True):
            layers = found[path, cross]
            for layer, attentions in layers.items():
                if len(attentions) > 1:
                    raise ValueError(
                        f"layer {layer} of {type(model).__name__} has several attentions ({', '.join(attentions)}): it "
                        "is not clear which one a layer's mask is for"
                    )
            places = (Place(i, layer, names[0]) for i, (layer, names) in enumerate(layers.items()))
            stacks[name] = Stack(name, path.rpartition(".")[0], tuple(places), cross)
    return stacks


def names_of(paths: list[str], only: str) -> list[str]:
    """A short name for each path: `only` for a single one, else what they do not have in common at both ends."""
    if len(paths) < 2:
        return [only] * len(paths)
    parts = [path.split(".") for path in paths]
    start = common(parts)
    end = common([part[start:][::-1] for part in parts])
    names = ["_".join(part[start : len(part) - end]) or part[-1] for part in parts]
    return [f"{name}_{only}" if only == "cross" else name for name in names]


def common(parts: list[list[str]]) -> int:
    """How many first words all lists share."""
    count = 0
    for words in zip(*parts, strict=False):
        if len(set(words)) > 1:
            break
        count += 1
    return count


def is_cross(module: nn.Module, name: str) -> bool:
    """True for cross-attention, by what transformers calls it; name: its path within the layer."""
    marked = getattr(module, "is_cross_attention", None)
    called = f"{name} {type(module).__name__}".lower()
    return bool(marked) or any(word in called for word in CROSS_NAMES)


def codes(module: nn.Module) -> Iterator[CodeType]:
    """The code of a module's forward, and of the functions that are written inside it."""
    todo = [getattr(inspect.unwrap(type(module).forward), "__code__", None)]
    while todo:
        code = todo.pop()
        if code is not None:
            yield code
            todo += [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def asks(module: nn.Module) -> bool:
    """True if a module looks up transformers' attention functions itself."""
    return any(TABLE in code.co_names for code in codes(module))


def gives(module: nn.Module) -> set[str]:
    """Names of keywords with which a module's forward calls something."""
    return {
        name
        for code in codes(module)
        for constant in code.co_consts
        if isinstance(constant, tuple)
        for name in constant
        if isinstance(name, str)
    }


def parameters(module: nn.Module) -> dict[str, inspect.Parameter]:
    """The parameters of a module's forward by name, without self."""
    named = dict(inspect.signature(inspect.unwrap(type(module).forward)).parameters)
    named.pop("self", None)
    return named


def check_stack(model: nn.Module, stack: Stack) -> None:
    """ValueError if it is known beforehand that an attention of the stack cannot have a mask."""
    for place in stack.places:
        layer, attention = model.get_submodule(place.layer), model.get_submodule(place.attention)
        if not hasattr(attention, "config"):
            raise ValueError(
                f"attention {place.attention!r} of {type(model).__name__} has no config to set its function in"
            )
        for module in (layer, attention):
            if not any(p.kind is p.VAR_KEYWORD for p in parameters(module).values()):
                raise ValueError(
                    f"{type(module).__name__} of {type(model).__name__} takes no further keywords, so no mask can be "
                    f"handed down to the attention at {place.attention!r}"
                )
        for name in UNSUPPORTED:
            if name in gives(attention):
                raise ValueError(
                    f"attention '{IMPLEMENTATION}' has no {name}: {type(attention).__name__} of {type(model).__name__} "
                    "cannot use it"
                )
        if hasattr(layer, "window_size"):
            raise ValueError(
                f"{type(layer).__name__} of {type(model).__name__} attends within windows of its input (window_size), "
                "and a mask of the whole sequence does not fit them"
            )


def width_and_heads(attention: Any) -> tuple[int | None, list[int]]:
    """Width of the tokens and numbers of heads (of queries, of keys), as far as the configuration has them."""
    config = attention.config
    heads = [getattr(config, name, None) for name in ("num_attention_heads", "num_key_value_heads")]
    return getattr(config, "hidden_size", None), sorted({count for count in heads if count}, reverse=True)
