"""Checkpoints with masks for another number of keys than the model has.

>>> state = torch.load("trained_at_50_keys.pt", weights_only=True)
>>> model.load_state_dict(resized_state(model, state))  # a model for 75 keys; without it: "size mismatch for ..."

For one module there is `ContextAwareMask.resized`. Masks of length content need neither: they have no columns.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from lcaam.module import MaskModule


def resized_state(
    model: nn.Module, state: Mapping[str, Tensor], how: str = "first", grid: tuple[int, int] | None = None
) -> dict[str, Tensor]:
    """The state dict with the columns of every mask in `model` resized to the number of keys that it has there.

    model: the model to load into; its masks may be anywhere, with any schedule and groups. state is not changed, and
           what belongs to no mask, or has the right size, is handed on as it is.
    how:   "first": the first columns stay, and further ones start at the fusion's neutral value, which changes nothing
           for `mul` and `temper`; `add` and `gate` compare keys, so there new keys are as old ones of value 0.
           "interpolate": the columns are resized linearly along the positions, all but those of prefix tokens.
    grid:  (rows, columns) of the positions in `state`, for masks with a 2-D grid; None is the same or a square grid.

    Raises ValueError for an unknown `how`, a grid that does not fit, and masks whose shapes show that they differ in
    more than the number of keys (hidden layers, rank, groups), or static tables of another size.
    """
    resized = dict(state)
    for path, module in model.named_modules():
        if isinstance(module, MaskModule):
            start = f"{path}." if path else ""
            own = {name[len(start) :]: tensor for name, tensor in state.items() if name.startswith(start)}
            resized |= {start + name: tensor for name, tensor in module.resized_state(own, how, grid).items()}
    return resized
