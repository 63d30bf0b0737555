"""From the configuration's `mask` node to what a backbone is built with; the same for every task.

>>> encoder = Encoder(width, layers, heads, **mask_options(mask, layers, width, num_keys=50))
"""

from typing import Any

from lcaam import Encoder, LayerMasks
from lcaam.controls import count, extra_layer_widths, extra_linear, extra_parameters

OF_CONTEXT = ("depth", "hidden", "rank", "groups", "residual", "init", "length", "fusion")


def mask_options(
    mask: dict[str, Any], num_layers: int, dim: int, num_keys: int, num_queries: int | None = None
) -> dict[str, Any]:
    """Keywords of lcaam.Encoder: `masks` and `fusion`, or what a control puts in the masks' place.

    mask: scope, kind, fusion, control and the mask network's options, as configs/schema.py types them; its `num_keys`,
    where given, wins over the data's. num_queries: None where queries and keys are the same tokens.
    """
    num_keys = mask.get("num_keys") or num_keys
    if mask.get("kind", "context") == "static":
        sizes = {"num_queries": num_queries or num_keys, "num_keys": num_keys}
        options = {"kind": "static", "fusion": mask["fusion"], "hard": mask["hard"], **sizes}
    else:
        options = {"dim": dim, "num_keys": num_keys, **{name: mask[name] for name in OF_CONTEXT if name in mask}}
    control = mask.get("control", "none")
    if control == "none":
        return {"masks": LayerMasks(mask["scope"], num_layers, **options), "fusion": mask["fusion"]}
    parameters = extra_parameters(scope=mask["scope"], num_layers=num_layers, **options)
    if control == "extra_linear":
        return {"after_attention": extra_linear(dim, num_layers, parameters, mask["control_residual"])}
    return {"extra_feedforward": extra_layer_widths(dim, parameters)}


def mask_parameters(encoder: Encoder) -> tuple[int, int]:
    """How many of a backbone's parameters are its masks', and how many a control's."""
    after = (layer.after_attention for layer in encoder.layers)
    extra = encoder.layers[encoder.masks.num_layers :]
    return count(encoder.masks), count(*after, *extra)
