"""Masks in models built from torch.nn's attention: nn.MultiheadAttention, nn.TransformerEncoder, nn.Transformer, ...

>>> model = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, batch_first=True), num_layers=2)
>>> attach(model, LayerMasks("per_layer", 2, dim=64, num_keys=50))  # outputs as before, until the masks learn
>>> detach(model)

The model stays what it was: the same layers and weights under the same names. What is new is one module, `model.lcaam`,
and so one prefix in the state dict. How a mask gets to its attention: lcaam/integrations/torch_nn_forward.py.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from lcaam.attention import find_backend
from lcaam.fusion import Fusion, agreed
from lcaam.integrations.torch_nn_forward import Attached, MaskedMultiheadAttention, Part, attached_class
from lcaam.mask import ContextAwareMask
from lcaam.stack import LayerMasks


def attach(
    model: nn.Module,
    masks: LayerMasks,
    names: str | Sequence[str] | None = None,
    fusion: str | Fusion | None = None,
    backend: str = "auto",
) -> nn.Module:
    """Puts a mask into every nn.MultiheadAttention of `model` that `names` selects, in place, and returns the model.

    model:   any module that contains nn.MultiheadAttention, or is one. Wrappers (compile, DDP) go around it afterwards.
    masks:   one layer for each attention, in the order of model.named_modules(). scope "shared" reads the query input
             of the first attention, "tied" and "per_layer" each attention's own; length "content" reads the key input.
             Where norm_first=True these inputs have been normalised. The masks move to the model's device and dtype.
    names:   one pattern or several, as in fnmatch, for the attentions' names: "layers.*.self_attn". None is all of
             them; a decoder has self- and cross-attention, whose masks differ in meaning, so there it must be said
             ("*" is all). Other masks for other attentions of one model are attached to its submodules, or the other
             way round: attach(model.decoder, ..., "*.self_attn"), attach(model, ..., "decoder.*.multihead_attn").
    fusion:  None is the one that the masks were made for, or mul if they do not say.
    backend: as in lcaam.attention.

    Masks that start as identity leave the outputs as they were up to rounding, except that a query without any key gets
    zeros where torch gives NaN. The fused inference paths of torch.nn, which know no masks, are not taken. A float
    attn_mask or key_padding_mask may hold 0 and -inf only. With need_weights=True the weights are those before dropout.
    The first forward must call every attention that has a mask. Gradient checkpointing recomputes a layer without
    the others, which a shared mask does not allow: RuntimeError in backward.

    Raises TypeError for a model or an attention that cannot have masks, ValueError for masks that do not fit it or
    names that select nothing; the model is untouched then.
    """
    check_model(model)
    chosen = attentions_of(model, names)
    check_attentions(chosen)
    check_masks(masks, chosen)
    fusion = agreed(fusion, masks.fusion)
    if backend != "auto":
        find_backend(backend)
    nested = nesting_encoders(model, chosen)
    like = next(iter(chosen.values())).out_proj.weight
    model.lcaam = Part(masks, list(chosen), nested, fusion, backend).to(like.device, like.dtype).train(model.training)
    for number, attention in enumerate(chosen.values()):
        attention.__class__ = MaskedMultiheadAttention
        attention.__dict__["owner"] = (model.lcaam, number)  # in a tuple: not a submodule, so not in the state dict
    for name in nested:
        model.get_submodule(name).use_nested_tensor = False  # type: ignore[assignment]
    model.__class__ = attached_class(type(model))
    return model


def detach(model: nn.Module) -> nn.Module:
    """Takes off what `attach` put on, in place, and returns the model: its own classes, weights and outputs.

    Raises ValueError for a model that has no masks attached.
    """
    if not isinstance(model, Attached):
        inside = [name for name, module in model.named_modules() if isinstance(module, Attached)]
        hint = f"; they are attached to its {', '.join(inside)}" if inside else ""
        raise ValueError(f"detach: this {type(model).__name__} has no masks attached{hint}")
    part: Any = model.lcaam
    plain: Any = model.plain_class
    model.__class__ = plain
    for name in part.names:
        attention = model.get_submodule(name)
        attention.__class__ = nn.MultiheadAttention
        del attention.__dict__["owner"]
    for name in part.nested:
        model.get_submodule(name).use_nested_tensor = True  # type: ignore[assignment]
    del model.lcaam
    return model


def nesting_encoders(model: nn.Module, chosen: dict[str, Any]) -> list[str]:
    """Names of the nn.TransformerEncoders around these attentions that would make nested tensors of padded input."""
    inside = {id(attention) for attention in chosen.values()}
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.TransformerEncoder)
        and getattr(module, "use_nested_tensor", False)
        and any(id(each) in inside for each in module.modules())
    ]


def check_model(model: nn.Module) -> None:
    if isinstance(model, Attached):
        raise ValueError("attach: this model has masks attached already; detach(model) first")
    if not isinstance(model, nn.Module):
        raise TypeError(f"attach takes a torch.nn.Module, got {type(model).__name__}")
    if hasattr(model, "_orig_mod") or isinstance(model, DataParallel | DistributedDataParallel):
        raise TypeError(
            f"{type(model).__name__} is a wrapper: attach the masks to the model inside, and wrap it afterwards"
        )
    if hasattr(model, "lcaam"):
        raise ValueError(f"attach: {type(model).__name__} has an attribute `lcaam`, which is where the masks would go")


def attentions_of(model: nn.Module, names: str | Sequence[str] | None) -> dict[str, Any]:
    """The attentions that the patterns select, by name, in the order of the model."""
    known = {name: module for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)}
    if not known:
        raise TypeError(f"attach: {type(model).__name__} contains no torch.nn.MultiheadAttention")
    listed = ", ".join(name or "the model itself" for name in known)
    if names is None:
        for module in model.modules():
            if isinstance(module, nn.TransformerDecoderLayer):
                raise ValueError(
                    "attach: this model has self- and cross-attention, so say with `names` which of them get the "
                    f"masks: {listed}"
                )
        return known
    patterns = [names] if isinstance(names, str) else list(names)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            near = get_close_matches(pattern, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"attach: no attention is called {pattern!r}; there are: {listed}.{hint}")
    return {n: module for n, module in known.items() if any(fnmatchcase(n, pattern) for pattern in patterns)}


def check_attentions(chosen: dict[str, Any]) -> None:
    for name, attention in chosen.items():
        called = name or "the model"
        if isinstance(attention, MaskedMultiheadAttention):
            raise ValueError(f"attach: {called} has a mask already; detach the model that it was attached to first")
        if type(attention) is not nn.MultiheadAttention:
            given = f"{type(attention).__module__}.{type(attention).__name__}"
            raise TypeError(
                f"attach: {called} is a {given}, whose forward is its own; only torch.nn.MultiheadAttention itself can "
                "have a mask"
            )
        if attention.bias_k is not None or attention.bias_v is not None or attention.add_zero_attn:
            option = "add_zero_attn" if attention.add_zero_attn else "add_bias_kv"
            raise TypeError(
                f"attach: {called} was built with {option}=True, which adds a key without a token, for which a mask "
                f"has no column: build it with {option}=False"
            )


def check_masks(masks: LayerMasks, chosen: dict[str, Any]) -> None:
    """ValueError unless there is one layer of masks for each attention, and each reads tokens of its width."""
    if not isinstance(masks, LayerMasks):
        raise TypeError(f"attach takes a LayerMasks, got {type(masks).__name__}")
    if masks.num_layers != len(chosen):
        raise ValueError(
            f"attach: masks for {masks.num_layers} layers given to {len(chosen)} attentions: {', '.join(chosen)}"
        )
    for number, (name, attention) in enumerate(chosen.items()):
        if masks.scope == "none":
            return
        net: Any = masks.nets[number if masks.scope == "per_layer" else 0]
        if getattr(net, "groups", 1) not in (1, attention.num_heads):
            raise ValueError(
                f"attach: masks of {net.groups} groups do not fit {name}, which has {attention.num_heads} heads: "
                "groups is 1 or the number of heads"
            )
        reads = widths(net)
        for what, made_for, given in zip(("query", "key"), reads, (attention.embed_dim, attention.kdim), strict=True):
            if made_for is not None and made_for != given:
                raise ValueError(f"attach: a mask that reads a {what} width of {made_for} given to {name} of {given}")


def widths(net: nn.Module) -> tuple[int | None, int | None]:
    """The widths of the query and key tokens that a mask module reads; None for one that it does not read or name."""
    if not isinstance(net, ContextAwareMask):
        return None, None
    readers: list[Any] = [*net.hidden, *([] if net.squeeze is None else [net.squeeze])]
    keys: Any = net.key_hidden.in_features if net.length == "content" else None
    return readers[0].in_features if readers else net.rank, keys
