"""AdamW as SwinBERT uses it: a lower rate for the backbone, and which parameters decay.

>>> adamw_of_captioner(model, lr=3e-4, backbone_lr=0.05, weight_decay=0.2, betas=(0.9, 0.999), warmup=0.1, steps=10173)
"""

import torch

from tasks.common.optimisation import Schedule, own_rate, scheduled
from tasks.video_captioning.model import SwinBert

PLAIN = ("bias", "LayerNorm")  # parts of names that do not decay; the backbone's gains (`norm`) do, as published


def adamw_of_captioner(
    model: SwinBert,
    lr: float,
    backbone_lr: float,
    weight_decay: float,
    betas: tuple[float, float],
    warmup: float,
    steps: int,
    schedule: Schedule = "linear",
    lr_scale: float = 1.0,
) -> dict:
    """Lightning's optimiser configuration. backbone_lr, lr_scale: factors on `lr`, of the backbone and of masks and
    controls; warmup: share of `steps` in [0, 1]."""
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = lr * backbone_lr if name.startswith("backbone.") else lr
            decay = 0.0 if any(part in name for part in PLAIN) else weight_decay
            groups.setdefault((rate, decay), []).append(parameter)
    listed = [{"params": found, "lr": rate, "weight_decay": decay} for (rate, decay), found in groups.items()]
    optimiser = torch.optim.AdamW(own_rate(listed, model, lr_scale), lr=lr, betas=tuple(betas))
    return scheduled(optimiser, warmup, steps, schedule)
