"""The optimiser and schedule that the tasks share: AdamW, linear warm-up, cosine to zero, a step at a time."""

import math

import torch
from torch import nn


def adamw_cosine(
    model: nn.Module, lr: float, weight_decay: float, betas: tuple[float, float], warmup: float, steps: int
) -> dict:
    """Lightning's optimiser configuration.

    Matrices decay, vectors (biases, gains) do not. warmup: share of `steps` in [0, 1]; steps: of the whole training.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=tuple(betas))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: warmup_cosine(step, steps, warmup))
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """The factor on the learning rate at `step`: up linearly over the first share `warmup`, then cosine to 0."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise))))
