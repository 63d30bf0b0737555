"""The optimiser and schedules that the tasks share: AdamW with a linear warm-up, then a cosine or a line to zero, or a
constant rate."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn


def adamw(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float],
    warmup: float,
    steps: int,
    schedule: Literal["cosine", "constant"] = "cosine",
    decay: Literal["matrices", "all"] = "matrices",
    fused: bool = False,
) -> dict:
    """Lightning's optimiser configuration.

    warmup: share of `steps` in [0, 1]; steps: updates of the whole training. decay: "matrices" leaves out vectors
    (biases, gains), "all" does not. fused: one kernel for all parameters; several times as fast for many small ones.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.dim() > 1 or decay == "all"]
    plain = [p for p in trained if p.dim() <= 1 and decay != "all"]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=tuple(betas), fused=fused)
    return scheduled(optimiser, warmup, steps, schedule)


def scheduled(
    optimiser: torch.optim.Optimizer, warmup: float, steps: int, schedule: Literal["cosine", "linear", "constant"]
) -> dict:
    """Lightning's optimiser configuration of `optimiser`; warmup and steps as in `adamw`."""
    after = {"cosine": cosine, "linear": lambda share: 1.0 - share, "constant": lambda share: 1.0}[schedule]
    factor = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: warmed_up(step, steps, warmup, after))
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": factor, "interval": "step"}}


def warmed_up(step: int, steps: int, warmup: float, after: Callable[[float], float]) -> float:
    """The factor on the learning rate at `step`. It rises linearly over the first share `warmup` of the steps, then it
    is after(share of the rest that is done)."""
    rise = max(1, round(warmup * steps)) if warmup else 0
    if step < rise:
        return (step + 1) / rise
    return after(min(1.0, (step - rise) / max(1, steps - rise)))


def cosine(share: float) -> float:
    """Falls from 1 to 0 as `share` rises from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * share))
