"""From mask settings to what a stack is built with: masks, or a control in their place. The same for every model.

>>> encoder = Encoder(width, layers, heads, **mask_options(settings, layers, width, num_keys=50))
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from lcaam.controls import CONTROLS, count, extra_layer_widths, extra_linear, extra_parameters
from lcaam.drawing import drawn_apart
from lcaam.encoder import Masked
from lcaam.stack import LayerMasks, find_kind


def mask_options(
    settings: Mapping[str, Any],
    num_layers: int,
    dim: int,
    num_keys: int | None,
    num_queries: int | None = None,
    grid: tuple[int, int] | None = None,
    prefix: int = 0,
    boundaries: tuple[int, ...] = (),
    purpose: str = "masks",
    bias: bool = True,
) -> dict[str, Any]:
    """Keywords of lcaam.Encoder: `masks` and `fusion`, or what a control puts in the masks' place.

    settings: scope, fusion, kind, control, control_residual and the settings of the kind, as the `mask` node of a
        configuration has them. Scope is required, with control extra_linear control_residual as well. A
        fusion of None is the kind's default; `num_keys`, if not None, is used instead of the model's.
    dim: width of the tokens that masks read. num_keys, num_queries: size of the score matrix; num_queries is None if
        queries and keys are the same tokens. grid, prefix: (rows, columns) of 2-D tokens, and how many tokens without a
        position are in front of them. boundaries: where the tokens of one modality end and those of the next begin.
    purpose: whose masks they are, if a model has several stacks. Masks and controls draw their random numbers apart
        from the rest of the model, and by this name also from one another (lcaam.drawing).
    bias: whether the stack's layers have biases, for the size of additional ones.

    Raises ValueError for an unknown scope, kind or control, for settings that the kind refuses, and for a control that
    has no masks to match.
    """
    num_keys = settings.get("num_keys") or num_keys
    num_queries = num_queries or num_keys
    sizes = {"dim": dim, "num_queries": num_queries, "num_keys": num_keys, "grid": grid, "prefix": prefix}
    sizes |= {"rows": (prefix, num_queries), "columns": (prefix, num_keys), "boundaries": boundaries}
    kind = settings.get("kind", "context")
    given = {name: value for name, value in settings.items() if name != "fusion" or value is not None}
    options = {"kind": kind, **find_kind(kind).options_from(given, sizes)}
    control, scope = settings.get("control", "none"), settings["scope"]
    if control not in CONTROLS:
        raise ValueError(f"unknown control {control!r}; allowed: {', '.join(CONTROLS)}")
    if control == "none":
        with drawn_apart(purpose):
            return {"masks": LayerMasks(scope, num_layers, **options), "fusion": settings.get("fusion")}
    if scope == "none":
        raise ValueError(f"control {control!r} matches the parameters of masks; scope 'none' has no masks")
    parameters = extra_parameters(scope=scope, num_layers=num_layers, **options)
    if control == "extra_linear":
        with drawn_apart(purpose):
            return {"after_attention": extra_linear(dim, num_layers, parameters, settings["control_residual"])}
    return {"extra_feedforward": extra_layer_widths(dim, parameters, bias)}


def mask_parameters(stack: Masked) -> tuple[int, int]:
    """How many of a masked stack's parameters are its masks', and how many a control's."""
    return count(stack.masks), count(*stack.controls())


def additions(model: nn.Module) -> list[nn.Module]:
    """What a model has more than the same one without masks: the masks of its stacks, and what controls put in."""
    stacks: list[Any] = [module for module in model.modules() if isinstance(module, Masked)]
    return [addition for stack in stacks for addition in (stack.masks, *stack.controls())]
