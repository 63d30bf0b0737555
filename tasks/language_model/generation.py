"""Writes text: one character after the other, each from the last `context` ones.

>>> ids = generate(model, prompt, 200, temperature=0.8, generator=torch.Generator().manual_seed(0))

With the cache each step computes one row, that of the last character; without it the whole window. Both read the same
windows and give the same text. A window that is full loses its first `stride` characters, and what is left is computed
again, because places and columns of a mask have moved: stride=1 reads the last `context` characters in every step, a
larger one reads fewer in some steps and computes less.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lcaam import Memory
from tasks.language_model.model import CharacterModel


@torch.no_grad()
def generate(
    model: CharacterModel,
    ids: Tensor,
    count: int,
    *,
    temperature: float = 1.0,
    top: int | None = None,
    generator: torch.Generator | None = None,
    context: int | None = None,
    stride: int = 1,
    cache: bool | None = None,
) -> Tensor:
    """The next `count` ids (B, count) after ids (B, n), n at least 1. The caller puts the model in eval mode.

    temperature: logits are divided by it; 0 takes the most probable character. top: draws among so many most probable
    ones; None is all. generator: of the CPU; None is torch's global one. context: None is that of training.
    cache: None uses it if the masks allow it (CharacterModel.caches).

    Raises ValueError for numbers out of range and for a cache that the masks do not allow, ConfigError for a context
    that the model cannot read.
    """
    context = model.context if context is None else context
    cache = model.caches if cache is None else cache
    check(model, ids, count, temperature, top, context, stride, cache)
    start, memory = max(0, ids.shape[1] - context), None
    for _ in range(count):
        if ids.shape[1] - start > context:
            start, memory = ids.shape[1] - context + stride - 1, None
        if not cache:
            logits = last_logits(model, ids[:, start:], context)
        else:
            new = ids[:, start:] if memory is None else ids[:, -1:]
            memory = Memory(context) if memory is None else memory
            logits = model(new, memory)[:, -1]
            memory.keep()
        ids = torch.cat([ids, chosen(logits.float(), temperature, top, generator)], 1)
    return ids[:, ids.shape[1] - count :]


def last_logits(model: CharacterModel, window: Tensor, context: int) -> Tensor:
    """The logits (B, vocabulary) behind a window (B, n). A mask whose columns are stretched over the sequence gets all
    columns of the context, as in training: the places behind the window are filled, and nothing before sees them."""
    length = window.shape[1]
    if any(getattr(net, "length", None) == "interpolate" for net in model.encoder.masks.nets):
        window = F.pad(window, (0, context - length))
    return model(window)[:, length - 1]


def chosen(logits: Tensor, temperature: float, top: int | None, generator: torch.Generator | None) -> Tensor:
    """logits (B, vocabulary) -> ids (B, 1)."""
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    below = logits - logits.amax(-1, keepdim=True)
    logits = torch.where(below == 0.0, 0.0, below / temperature)  # finite for any temperature
    if top is not None and top < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(top).values[:, -1:], -torch.inf)
    drawn = torch.multinomial(logits.softmax(-1).cpu(), 1, generator=generator)
    return drawn.to(logits.device)


def check(
    model: CharacterModel, ids: Tensor, count: int, temperature: float, top: int | None, context: int, stride: int,
    cache: bool,
) -> None:  # fmt: skip
    if ids.shape[1] < 1:
        raise ValueError("generate: the text to go on with is empty; give at least one character")
    for name, value in {"count": count, "context": context, "top": 1 if top is None else top}.items():
        if value < 1:
            raise ValueError(f"generate: {name} must be at least 1, got {value}")
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"generate: temperature is a finite number, at least 0, got {temperature}")
    if not 1 <= stride <= context:
        raise ValueError(f"generate: stride is from 1 to the context of {context}, got {stride}")
    if cache and not model.caches:
        raise ValueError("generate: these masks cannot grow with the text (length interpolate, static): cache=False")
    model.check_length(context)
