"""From mask settings to what a stack is built with: masks, or a control in their place. The same for every model.

>>> encoder = Encoder(width, layers, heads, **mask_options(settings, layers, width, num_keys=50))
"""

from collections.abc import Mapping
from typing import Any

from lcaam.controls import CONTROLS, count, extra_layer_widths, extra_linear, extra_parameters
from lcaam.encoder import MaskedStack
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
) -> dict[str, Any]:
    """Keywords of lcaam.Encoder: `masks` and `fusion`, or what a control puts in the masks' place.

    settings: scope, fusion, kind, control, control_residual and the settings of the kind, as the `mask` node of a
        configuration has them. Scope is required, with control extra_linear control_residual as well. A
        fusion of None is the kind's default; `num_keys`, if not None, is used instead of the model's.
    dim: width of the tokens that masks read. num_keys, num_queries: size of the score matrix; num_queries is None if
        queries and keys are the same tokens. grid, prefix: (rows, columns) of 2-D tokens, and how many tokens without a
        position are in front of them. boundaries: where the tokens of one modality end and those of the next begin.

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
        return {"masks": LayerMasks(scope, num_layers, **options), "fusion": settings.get("fusion")}
    if scope == "none":
        raise ValueError(f"control {control!r} matches the parameters of masks; scope 'none' has no masks")
    parameters = extra_parameters(scope=scope, num_layers=num_layers, **options)
    if control == "extra_linear":
        return {"after_attention": extra_linear(dim, num_layers, parameters, settings["control_residual"])}
    return {"extra_feedforward": extra_layer_widths(dim, parameters)}


def mask_parameters(stack: MaskedStack) -> tuple[int, int]:
    """How many of a backbone's parameters are its masks', and how many a control's."""
    layers: Any = stack.layers
    after = (layer.after_attention for layer in layers)
    extra = layers[stack.masks.num_layers :]
    return count(stack.masks), count(*after, *extra)
