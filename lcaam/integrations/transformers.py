"""Masks in a transformers model: attached to the attention of every layer, and taken off again.

>>> model = AutoModelForCausalLM.from_pretrained("gpt2")
>>> masks = LayerMasks("per_layer", 12, dim=768, num_keys=1024, init="identity")  # Multi-LCAAM
>>> attach(model, masks)  # outputs as before, until the masks learn
>>> model.generate(ids, attention_mask=keep)
>>> detach(model)

The model stays what it was. What is new is one module, `model.lcaam`, so optimisers, devices, `train()` and state dicts
include the masks. How a mask gets to its attention: lcaam/integrations/transformers_forward.py.

Without `attach`, `model.set_attn_implementation(IMPLEMENTATION)` and the keyword `soft_mask=` bring one mask to every
attention of a model whose code hands keywords down. Nothing is checked then: a model without that implementation, or a
misspelled keyword, computes plain attention, and lcaam is never asked.
"""

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import nn

from lcaam.attention import find_backend
from lcaam.integrations.transformers_attention import IMPLEMENTATION, UNSUPPORTED, masked_attention
from lcaam.integrations.transformers_forward import Attachment
from lcaam.integrations.transformers_layers import Stack, check_stack, find_stacks, width_and_heads
from lcaam.stack import LayerMasks

__all__ = ["FILE", "IMPLEMENTATION", "UNSUPPORTED", "attach", "detach", "load_masks", "masked_attention", "save_masks"]

FILE = "lcaam.safetensors"


class Attached(nn.ModuleDict):
    """What a model with masks has more than before, as `model.lcaam`: the LayerMasks of each stack, by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[tuple[Any, str]] = []  # configurations, and the attention implementation that each had
        self.attachments: dict[str, Attachment] = {}


def attach(model: nn.Module, masks: LayerMasks, where: str | None = None, backend: str = "auto") -> nn.Module:
    """Gives every attention of a stack of layers its mask, in place, and returns the model.

    model:   a PreTrainedModel whose attention asks transformers for its function and hands keywords down to it. Attach
             before wrappers (compile, DDP, PEFT) go around it.
    masks:   LayerMasks for as many layers as the stack has; `dim` is the model's hidden size. They go to the model's
             device and precision and become `model.lcaam[where]`. A mask reads what comes into the layer, before any
             norm, as in Encoder: with scope "tied" and "per_layer" each layer's own input, with "shared" the first
             layer's (LCAAM). Columns of lengths fixed and interpolate are positions of tokens. In a decoder that gets
             padding at the left (attention_mask of shape (B, N)), a sample's first real token is position 0.
    where:   None - the model's only self-attention. One with several stacks has to be asked by name: Bart has
             "encoder", "decoder" and "cross", CLIP has "text_model" and "vision_model". "cross" is cross-attention,
             whose queries are the decoder's tokens and whose keys are the encoder's. Each can have masks of its own, by
             one call each; the other attentions stay plain.
    backend: as in lcaam.attention.

    Where masks start as identity the outputs are the model's up to rounding. Generation works with and without a cache;
    a mask of length interpolate is refused with one. Gradient checkpointing must not be re-entrant. Attention weights
    are not returned (output_attentions); lcaam.analysis.record has them.

    Every call checks that each attention used its mask, and the first one that each layer ran; ValueError otherwise.
    Raises TypeError for other classes than PreTrainedModel and LayerMasks; ValueError for a model whose attention
    cannot have masks, an unknown or missing `where`, or another number of layers, width or heads. The model is
    unchanged then.
    """
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        given = f"{type(model).__module__}.{type(model).__name__}"
        raise TypeError(
            f"attach takes a PreTrainedModel of transformers, got {given}. Wrappers go around it afterwards"
        )
    if not isinstance(masks, LayerMasks):
        raise TypeError(f"attach takes LayerMasks, got {type(masks).__name__}: LayerMasks(scope, num_layers, ...)")
    if backend != "auto":
        find_backend(backend)
    stack = choose(find_stacks(model), where, type(model).__name__)
    check_stack(model, stack)
    check_masks(model, stack, masks)
    present = getattr(model, "lcaam", None)
    if present is not None and not isinstance(present, Attached):
        raise ValueError(f"attach: {type(model).__name__} has an attribute 'lcaam' of its own")
    if present is not None and stack.name in present:
        raise ValueError(f"attach: {stack.name!r} of this model has masks already; detach(model, {stack.name!r}) first")
    if present is None:
        model.lcaam = Attached()
    attached: Any = model.lcaam
    like = next(model.get_submodule(stack.places[0].attention).parameters())
    attached[stack.name] = masks.to(like.device, like.dtype if like.is_floating_point() else None).train(model.training)
    attached.attachments[stack.name] = Attachment(model, stack, masks, backend)
    for place in stack.places:
        config: Any = model.get_submodule(place.attention).config
        if config._attn_implementation != IMPLEMENTATION:
            attached.before.append((config, config._attn_implementation))
            config._attn_implementation = {"": IMPLEMENTATION}  # its own, and none of those inside it
    return model


def detach(model: nn.Module, where: str | None = None) -> nn.Module:
    """Takes the masks off, in place, and returns the model: its own outputs, to the bit, and its own state dict.

    where: the name of one stack; None is all of them. ValueError for a model, or a stack, without masks.
    """
    attached = attached_of(model, "detach")
    if where is not None and where not in attached:
        raise ValueError(f"detach: no masks at {where!r}; there are some at {', '.join(attached)}")
    for name in list(attached) if where is None else [where]:
        attached.attachments.pop(name).remove()
        del attached[name]
    if not attached:
        for config, implementation in attached.before:
            config._attn_implementation = {"": implementation}
        del model.lcaam
    return model


def save_masks(model: nn.Module, folder: str | Path) -> Path:
    """Saves the attached masks alone as `folder`/lcaam.safetensors, beside what model.save_pretrained writes there.

    save_pretrained has their weights too, under `lcaam.`, so that a Trainer resumes with them; from_pretrained makes a
    model without masks and reports these names as unexpected. Then attach, and load_masks.
    """
    from safetensors.torch import save_file

    attached = attached_of(model, "save_masks")
    made_for = {name: description(masks) for name, masks in attached.items()}
    path = Path(folder) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().contiguous() for name, tensor in attached.state_dict().items()}
    save_file(tensors, path, {"format": "pt", "masks": json.dumps(made_for)})
    return path


def load_masks(model: nn.Module, folder: str | Path) -> nn.Module:
    """Loads what save_masks saved into the masks that are attached, and returns the model.

    Raises FileNotFoundError without such a file; ValueError if the masks in it are others than the attached ones, by
    their stack, scope, number of layers, fusion, names or shapes. The masks are unchanged then.
    """
    from safetensors import safe_open

    attached = attached_of(model, "load_masks")
    path = Path(folder) / FILE
    if not path.is_file():
        raise FileNotFoundError(f"load_masks: {path} does not exist; save_masks(model, folder) writes it")
    with safe_open(path, "pt") as file:
        saved = json.loads((file.metadata() or {}).get("masks", "{}"))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a dictionary)
    here = {name: description(masks) for name, masks in attached.items()}
    if saved != here:
        raise ValueError(f"load_masks: {path} has masks {saved}, and the model has {here}")
    shapes = {name: tuple(tensor.shape) for name, tensor in attached.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != shapes:
        wrong = {name: (found.get(name), shapes.get(name)) for name in sorted(found.keys() | shapes.keys())}
        different = [f"{name}: {a} in the file, {b} here" for name, (a, b) in wrong.items() if a != b]
        raise ValueError(f"load_masks: {path} has other weights than the masks ({'; '.join(different)})")
    attached.load_state_dict(tensors)
    return model


def attached_of(model: nn.Module, caller: str) -> Attached:
    attached = getattr(model, "lcaam", None)
    if not isinstance(attached, Attached):
        raise ValueError(f"{caller}: this {type(model).__name__} has no masks attached")
    return attached


def description(masks: Any) -> dict[str, Any]:
    """What has to agree beside the weights."""
    return {
        "scope": masks.scope,
        "layers": masks.num_layers,
        "kind": sorted({type(net).__name__ for net in masks.nets}),
        "fusion": None if masks.fusion is None else masks.fusion.name,
    }


def choose(stacks: dict[str, Stack], where: str | None, model: str) -> Stack:
    """The stack that `where` names; None is the only one of self-attention."""
    if where is None:
        of_self = [stack for stack in stacks.values() if not stack.cross]
        if len(of_self) != 1:
            raise ValueError(f"attach: {model} has several attentions; say where: {', '.join(stacks)}")
        return of_self[0]
    if where not in stacks:
        near = get_close_matches(str(where), stacks, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"attach: {model} has no attention {where!r}; it has {', '.join(stacks)}.{hint}")
    return stacks[where]


def check_masks(model: nn.Module, stack: Stack, masks: LayerMasks) -> None:
    """ValueError if the masks were made for another stack than this one."""
    name = f"{stack.name!r} of {type(model).__name__}"
    if masks.num_layers != len(stack.places):
        raise ValueError(f"attach: masks for {masks.num_layers} layers given to {name}, which has {len(stack.places)}")
    width, heads = width_and_heads(model.get_submodule(stack.places[0].attention))
    nets: Any = masks.nets
    for net in nets:
        reads = net.linear_layers()[0].in_features if hasattr(net, "linear_layers") else None
        if None not in (reads, width) and reads != width:
            raise ValueError(f"attach: masks that read tokens of width {reads} given to {name}, whose width is {width}")
        groups = getattr(net, "groups", 1)
        if heads and groups not in (1, *heads):
            allowed = ", or ".join(f"one for each of {count} heads" for count in heads)
            raise ValueError(f"attach: masks with {groups} groups given to {name}; allowed: 1, or {allowed}")
