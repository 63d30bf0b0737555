"""What `python -m scripts.cost` and `scripts.rehearse` ask a task for: how it is built without a download, what is
trained, and which calls are worth timing.

A task's class answers with `cost_hooks()`; numbers of parameters and FLOPs are its own `parts()` and `flops(batch)`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn

Calls = dict[str, Callable[[], object]]


def nothing(*_) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class CostHooks:
    """Functions of a task's module, of a batch of one sample, and of the task's node of the configuration.

    root: module -> the part of it whose children's FLOPs are listed one by one.
    calls: module, batch -> the calls that are timed, by name; `forward` is the one that flops(batch) counts.
    prepare: task node, whether the data have texts that a tokenizer can be learned from -> keywords that the module is
        built with besides. Changes a node that would download something.
    words: module, batch with one word, tokens -> the number of words that make the model read that many tokens.
    part, shrink: for a model that is too large to be built. `shrink` makes its task node small, and `part` gives the
        calls that can still be timed; None if there are none.
    precision: module, task node as configured -> puts the weights into the types that they have in a run.
    training: the same -> what is frozen and what is computed again in the backward pass, as in a run.
    """

    root: Callable[[nn.Module], nn.Module]
    calls: Callable[[nn.Module, dict], Calls]
    prepare: Callable[[DictConfig, bool], dict[str, Any]] = nothing
    words: Callable[[nn.Module, dict, int], int] = lambda module, batch, tokens: 1
    part: Callable[[nn.Module, dict], Calls] | None = None
    shrink: Callable[[DictConfig], object] = nothing
    precision: Callable[[nn.Module, DictConfig], object] = nothing
    training: Callable[[nn.Module, DictConfig], object] = nothing


def vocabulary(size: int, special: list[str], unknown: str) -> Tokenizer:
    """A tokenizer with `size` entries, one token per word: the special tokens first, then the words w0, w1, ...

    Every text of n words from datamodules.stand_in.sentence is n tokens.
    """
    entries = [*special, *(f"w{i}" for i in range(max(0, size - len(special))))]
    tokenizer = Tokenizer(models.WordLevel({entry: i for i, entry in enumerate(entries)}, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer
