"""AdamW with timm's rules for which weights decay, and learning rates that fall from the head to the patches.

>>> adamw_by_layer(vit, lr=1e-3, weight_decay=0.05, betas=(0.9, 0.999), warmup=0.05, steps=1000, layer_decay=0.75)
"""

import torch
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_layer_decay, param_groups_weight_decay

from tasks.common.optimisation import Schedule, own_rate, scheduled


def adamw_by_layer(
    vit: VisionTransformer,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float],
    warmup: float,
    steps: int,
    layer_decay: float = 1.0,
    lr_scale: float = 1.0,
    schedule: Schedule = "cosine",
) -> dict:
    """Lightning's optimiser configuration: linear warm-up over the share `warmup` of `steps`, then `schedule`.

    Vectors do not decay, and neither does what the model names (position embedding, class and register tokens).
    layer_decay: factor on the rate from a block to the one before it; head, last norm and masks learn at `lr`, the
    patch embedding at lr * layer_decay^(blocks + 1). 1: the same rate everywhere.
    lr_scale: factor on the rate of masks and controls.
    """
    options = {"weight_decay": weight_decay, "no_weight_decay_list": vit.no_weight_decay()}
    if layer_decay == 1:
        groups = param_groups_weight_decay(vit, **options)
    else:
        groups = param_groups_layer_decay(vit, layer_decay=layer_decay, **options)
    groups = [{"lr": lr * group.pop("lr_scale", 1.0), **group} for group in groups]
    optimiser = torch.optim.AdamW(own_rate(groups, vit, lr_scale), lr=lr, betas=tuple(betas))
    return scheduled(optimiser, warmup, steps, schedule)
