"""A causal Transformer of characters, as nanoGPT's small settings have it, with masks.

    model = CharacterModel(vocabulary=65, context=64, width=128, layers=4, heads=4, mask=cfg.mask)
    logits = model(ids)                       # (B, T, 65), for the character behind each place

embedding (+ positions) -> pre-norm layers with causal attention and masks -> LayerNorm -> a logit for each character.
lcaam.plan makes the masks: those of fixed length, those that read the keys' contents, and tables that read nothing.
"""

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.errors import ConfigError
from lcaam import ContextAwareMask, Encoder, Memory
from lcaam.controls import ExtraLinear, count
from lcaam.drawing import drawn_apart
from lcaam.learned import LearnedMask
from lcaam.plan import mask_options, mask_parameters
from lcaam.positions import POSITIONS
from lcaam.relatives import with_contextual_positions, with_sparse_softmax

STD = 0.02  # standard deviation of initial weights, GPT-2's
BASE = 10_000.0  # of the sinusoids' wavelengths

Positions = Literal["learned", "sinusoidal", "rotary", "alibi", "none"]
Relative = Literal["none", "entmax15", "cope"]
WAYS = "task.positions=sinusoidal, rotary, alibi or none"


class CharacterModel(nn.Module):
    """The model.

    vocabulary: number of characters. context: most characters that it reads at once in training.
    feedforward: None is 4 x width.
    positions: "learned" - a vector for each place; "sinusoidal" - fixed sines and cosines (Vaswani et al., 2017) of
        amplitude `position_scale`; "rotary", "alibi" - within attention (lcaam.positions); "none" - a causal model
        can count what it sees.
    relative: "entmax15" - a sparse softmax; "cope" - contextual positions (lcaam.relatives). Masks work beside them.
    bias: False leaves out all biases but those of masks. tied: the head's weights are those of the embedding.
    mask: the configuration's mask node (lcaam.plan), or None.

    Raises ValueError for a mask that a line of tokens of one kind cannot have.
    """

    def __init__(
        self,
        vocabulary: int,
        context: int,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        feedforward: int | None = None,
        positions: Positions = "learned",
        position_scale: float = 0.03,
        relative: Relative = "none",
        dropout: float = 0.0,
        bias: bool = False,
        tied: bool = True,
        mask: dict[str, Any] | None = None,
        backend: str = "auto",
    ):
        super().__init__()
        self.context, self.positions, self.position_scale = context, positions, position_scale
        self.embedding = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.empty(context, width)) if positions == "learned" else None
        self.dropout = nn.Dropout(dropout)
        masked = {} if mask is None else mask_options(mask, layers, width, num_keys=context, bias=bias)
        within = positions if positions in POSITIONS else None
        how: dict[str, Any] = {"dropout": dropout, "backend": backend, "bias": bias, "positions": within}
        self.encoder = Encoder(width, layers, heads, feedforward, **how, **masked)
        self.head = None if tied else nn.Linear(width, vocabulary, bias=False)
        self.reset_parameters()
        if relative == "entmax15":
            with_sparse_softmax(self.encoder)
        if relative == "cope":
            with_contextual_positions(self.encoder, context)

    def reset_parameters(self) -> None:
        """GPT-2's initialisation, of what a control adds as well; masks keep their own."""
        own, extra = self.encoder.own_layers(), self.encoder.extra_layers()
        nn.init.normal_(self.embedding.weight, std=STD)
        if self.places is not None:
            nn.init.normal_(self.places, std=STD)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=STD)
        for layer in own:
            start(layer, len(own))
        with drawn_apart("extra layers, GPT-2's initialisation"):
            for layer in extra:
                start(layer, len(own) + len(extra))
        with drawn_apart("linear controls, GPT-2's initialisation"):
            for control in self.encoder.controls():
                if isinstance(control, ExtraLinear):
                    *hidden, last = control.layers
                    redraw(hidden, STD)
                    redraw([last], STD / math.sqrt(2 * len(own)))

    # -- from ids to logits --------------------------------------------------------------------------------------------

    def forward(self, ids: Tensor, memory: Memory | None = None) -> Tensor:
        """ids (B, T) -> logits (B, T, vocabulary); those of a place depend on the ids up to it.

        memory: for decoding: ids are the next ones behind those that it has kept. Raises ConfigError, a ValueError, for
        more ids than positions or masks can serve.
        """
        start = 0 if memory is None else memory.kept
        self.check_length(start + ids.shape[1])
        x = self.dropout(self.embedding(ids) + self.of_places(start, ids.shape[1]))
        x = self.encoder(x, causal=True, memory=memory)
        return F.linear(x, self.embedding.weight if self.head is None else self.head.weight)

    def of_places(self, start: int, count: int) -> Tensor | float:
        """What is added to the embeddings of the places from `start` on, (count, D); 0 if nothing is."""
        if self.places is not None:
            return self.places[start : start + count]
        if self.positions != "sinusoidal":
            return 0.0
        weight = self.embedding.weight
        places = torch.arange(start, start + count, device=weight.device, dtype=torch.float32)
        width = weight.shape[1]
        angle = places[:, None] * BASE ** -(torch.arange(0, width, 2, device=weight.device) / width)
        waves = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :width]  # an odd width has a sine more
        return (self.position_scale * waves).to(weight.dtype)

    # -- how much it can read ------------------------------------------------------------------------------------------

    def check_length(self, length: int) -> None:
        """Raises ConfigError, in one line with the way out, if the model cannot read so many characters."""
        if self.places is not None and length > len(self.places):
            raise ConfigError(
                f"a context of {length} characters: learned positions end at the {len(self.places)} of training; "
                f"a longer context needs a run with {WAYS}"
            )
        for net in self.encoder.masks.nets:
            most = width_of(net)
            if most is not None and length > most:
                raise ConfigError(
                    f"a context of {length} characters: the mask has {most} columns, those of its training; a longer "
                    "context needs a run with mask.length=content or interpolate, or with a mask that has no columns"
                )

    @property
    def caches(self) -> bool:
        """Whether decoding step by step gives what the whole sequence gives: not with masks that cannot grow."""
        nets = list(self.encoder.masks.nets)
        return all(net.grows and getattr(net, "length", None) != "interpolate" for net in nets)

    def parts(self) -> dict[str, int]:
        """Parameter counts by part; `controls` counts what replaces the masks."""
        masks, controls = mask_parameters(self.encoder)
        places = 0 if self.places is None else self.places.numel()
        return {
            "embedding": count(self.embedding) + places,
            "encoder": count(self.encoder) - masks - controls,
            "head": 0 if self.head is None else count(self.head),
            "masks": masks,
            "controls": controls,
        }


def start(layer: nn.Module, layers: int) -> None:
    """GPT-2's initial weights of an EncoderLayer in a stack of `layers`."""
    attention: Any = layer.attention
    redraw((attention.query, attention.key, attention.value, layer.expand), STD)
    redraw((attention.out, layer.contract), STD / math.sqrt(2 * layers))  # two in each layer add to the residual stream


def redraw(linears: Iterable[Any], std: float) -> None:
    """Normal weights, and biases of zero."""
    for linear in linears:
        nn.init.normal_(linear.weight, std=std)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)


def width_of(net: nn.Module) -> int | None:
    """The most keys that a mask module serves; None is any number."""
    if isinstance(net, ContextAwareMask):
        return net.num_keys if net.length == "fixed" else None
    return net.limits[1] if isinstance(net, LearnedMask) else getattr(net, "num_keys", None)
