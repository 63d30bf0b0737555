"""The forward pass of a transformers model with masks (`attach` puts the hooks on).

    owner (runs the layers)        a new Pass; at its end, were all layers there?
      layer(x, soft_mask=Orders)   the layer's input x, which its mask reads; a shared mask is made in the first one
        attention(Given)           transformers' code hands the keyword down; here the mask is made
          masked_attention         takes it: no mask is lost unseen

What a layer's mask is made from travels as a keyword. So gradient checkpointing, which calls what is inside a layer
again with the same keywords, finds that of its own forward. A shared mask is made outside of it and keeps its
activations.
"""

import threading
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from lcaam.factors import Mask
from lcaam.integrations.transformers_attention import IMPLEMENTATION, Given, Orders
from lcaam.integrations.transformers_cache import Memory, aligned, find_cache, left_padding
from lcaam.integrations.transformers_layers import CROSS, Place, Stack, parameters
from lcaam.stack import LayerMasks

HOOKS_INSIDE = "__call__" in vars(GradientCheckpointingLayer)  # older transformers checkpoint a layer's hooks with it


@dataclass
class Pass:
    """What the layers of a stack share in one forward."""

    padding: Tensor | None = None  # (B,) tokens of padding that each sample begins with
    shared: Mask | None = None
    made: bool = False  # the shared mask, which may be None
    layers: set[int] = field(default_factory=set)  # that ran


@dataclass
class Order:
    """What the mask of one layer is made from.

    x (B, N_q, D): the layer's input; mask: the shared one, if there is one; offset, count: as in `aligned`.
    """

    x: Tensor
    memory: Memory | None
    padding: Tensor | None
    mask: Mask | None
    offset: int
    count: int


class Attachment:
    """The masks of one stack of attentions, and the hooks that bring them there."""

    def __init__(self, model: nn.Module, stack: Stack, masks: LayerMasks, backend: str):
        self.model_name, self.stack, self.masks, self.backend = type(model).__name__, stack, masks, backend
        self.passes: dict[int, Pass] = {}  # by thread
        self.complete = False  # True once a forward went through all layers
        nets: Any = masks.nets
        lengths = {getattr(net, "length", None) for net in nets}
        self.by_position, self.stretched = lengths != {"content"}, "interpolate" in lengths
        self.rows_have_places = any(getattr(net, "rows_have_places", False) for net in nets)
        owner = model.get_submodule(stack.owner)
        self.names_of_owner = list(parameters(owner))
        self.handles = [
            owner.register_forward_pre_hook(self.enter_owner, with_kwargs=True),
            owner.register_forward_hook(self.leave_owner, always_call=True),
        ]
        for place in stack.places:
            layer, attention = model.get_submodule(place.layer), model.get_submodule(place.attention)
            index, names = getattr(attention, "layer_idx", None), list(parameters(layer))
            enter = partial(self.enter_layer, place, index, names)
            inner = partial(self.enter_attention, place, list(parameters(attention)))
            self.handles += [
                layer.register_forward_pre_hook(enter, with_kwargs=True),
                attention.register_forward_pre_hook(inner, with_kwargs=True),
                attention.register_forward_hook(partial(self.leave_attention, place), with_kwargs=True),
            ]

    def remove(self) -> None:
        """Takes the hooks off."""
        for handle in self.handles:
            handle.remove()

    def enter_owner(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        padding = None
        if self.by_position and not self.stack.cross:
            look = self.stretched or not torch.compiler.is_compiling()  # a look would break the graph
            padding = left_padding(argument(self.names_of_owner, args, kwargs, "attention_mask"), look)
        self.passes[thread()] = Pass(padding)

    def leave_owner(self, module: Any, args: tuple, output: Any) -> None:
        run = self.passes.pop(thread(), None)
        if self.complete or run is None or output is None:  # None after an error
            return
        if module.training and getattr(module, "layerdrop", 0):  # leaves layers out on purpose
            return
        if missing := [place.layer for place in self.stack.places if place.number not in run.layers]:
            raise ValueError(
                f"attach: {', '.join(missing)} of {self.model_name} did not run, so their masks were not used: detach "
                "the masks, and attach them to a model that runs every layer"
            )
        self.complete = True

    def enter_layer(
        self, place: Place, index: int | None, names: list[str], module: Any, args: tuple, kwargs: dict
    ) -> tuple[tuple, dict]:
        orders = kwargs.get("soft_mask")
        if orders is not None and not isinstance(orders, Orders):
            raise ValueError(
                f"soft_mask: {self.model_name} has masks attached to {self.stack.name!r}; detach them first"
            )
        run = self.passes.get(thread())
        if run is None and self.masks.scope == "shared":
            raise ValueError(
                f"the shared mask is made where {self.model_name} runs all its layers: {place.layer} cannot run by "
                "itself, unless the masks have scope 'tied' or 'per_layer'"
            )
        run = Pass() if run is None else run
        run.layers.add(place.number)
        self.check_checkpointing(module, run)
        x = args[0] if args else kwargs["hidden_states"]
        memory, padding, offset, count = None, run.padding, 0, x.shape[1]
        cache = None if self.stack.cross else find_cache((*args, *kwargs.values()))
        if cache is not None and index is not None:
            memory = Memory(cache, int(cache.get_seq_length(index)), self.stack.name)
            count, offset = cache.get_mask_sizes(x.shape[1], index)
            padding = remembered(padding, memory)
            memory.padded = padding is not None
        if self.masks.scope == "shared" and not run.made:
            run.shared, run.made = self.masks(x, keys=self.keys(x, names, args, kwargs), memory=memory), True
        order = Order(x, memory, padding, run.shared, offset, count)
        return args, kwargs | {"soft_mask": Orders({**(orders or {}), self.stack.name: order})}

    def check_checkpointing(self, layer: Any, run: Pass) -> None:
        checkpointed = layer.training and getattr(layer, "gradient_checkpointing", False)
        if HOOKS_INSIDE and checkpointed and (self.masks.scope == "shared" or run.padding is not None):
            raise ValueError(
                "gradient checkpointing in this version of transformers runs the hooks of a layer again, without the "
                "shared mask and the padding of its forward: use a newer transformers, or masks of scope 'tied' or "
                "'per_layer' and padding at the right"
            )

    def keys(self, x: Tensor, names: list[str], args: tuple, kwargs: dict) -> Tensor:
        """The tokens that are attended to, (B, N_k, D)."""
        found = (argument(names, args, kwargs, name) for name in CROSS)
        states = next((value for value in found if value is not None), None)
        if not self.stack.cross:
            return x
        if states is None:
            raise ValueError(
                f"attach: no keyword {' or '.join(CROSS)} came to the cross-attention of {self.model_name}"
            )
        return states

    def enter_attention(
        self, place: Place, names: list[str], module: Any, args: tuple, kwargs: dict
    ) -> tuple[tuple, dict]:
        orders = kwargs.get("soft_mask")
        if not isinstance(orders, Orders) or self.stack.name not in orders:
            raise ValueError(
                f"attach: no mask came to {place.attention} of {self.model_name}: the layer does not hand its keywords "
                "down to this attention, or it was called without its layer. detach takes the masks off"
            )
        order: Order = orders[self.stack.name]
        if not self.stack.cross and any(argument(names, args, kwargs, name) is not None for name in CROSS):
            raise ValueError(
                f"attach: {place.attention} of {self.model_name} is cross-attention here, and its mask was made for "
                "self-attention"
            )
        keys = self.keys(order.x, names, args, kwargs)
        mask = order.mask
        if self.masks.scope != "shared":
            mask = self.masks(order.x, place.number, keys=keys, memory=order.memory)
        if mask is not None and not self.stack.cross:
            kept = order.memory.kept if order.memory else 0
            if order.padding is not None and self.rows_have_places:
                mask = Mask.from_dense(mask.dense(), mask.fusion)  # whose rows can be moved too
            mask = aligned(mask, kept, order.x.shape[1], order.padding, order.offset, order.count)
        given: dict[str, Any] = {"soft_mask": Given(mask)}
        return args, kwargs | given | ({} if self.backend == "auto" else {"backend": self.backend})

    def leave_attention(self, place: Place, module: Any, args: tuple, kwargs: dict, output: Any) -> None:
        if not kwargs["soft_mask"].used:
            raise ValueError(
                f"attach: {place.attention} of {self.model_name} did not use its mask: {type(module).__name__} does "
                "not hand keywords to its attention function, or the model's attention implementation is no longer "
                f"'{IMPLEMENTATION}' (it is {module.config._attn_implementation!r}). detach takes the masks off"
            )


def remembered(padding: Tensor | None, memory: Memory) -> Tensor | None:
    """The padding of the first step, in whose positions all later ones count."""
    if memory.kept:
        kept = memory.read("padding")
        return None if kept is None else kept.view(-1)
    if padding is not None:
        memory.write("padding", padding.view(-1, 1, 1, 1))
    else:
        memory.forget("padding")
    return padding


def argument(names: list[str], args: tuple, kwargs: dict, name: str) -> Any:
    """The value that a call with these arguments gives to the parameter `name`; None if it does not."""
    if name in names and names.index(name) < len(args):
        return args[names.index(name)]
    return kwargs.get(name)


def thread() -> int:
    """Who is running: two threads may use one model at the same time."""
    return 0 if torch.compiler.is_compiling() else threading.get_ident()
