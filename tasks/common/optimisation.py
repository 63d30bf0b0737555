"""The optimiser and schedules that the tasks share: AdamW with a linear warm-up, then a cosine or a line to zero, or a
constant rate."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from lcaam.plan import additions


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
    lr_scale: float = 1.0,
) -> dict:
    """Lightning's optimiser configuration.

    warmup: share of `steps` in [0, 1]; steps: updates of the whole training. decay: "matrices" leaves out vectors
    (biases, gains), "all" does not. fused: one kernel for all parameters; several times as fast for many small ones.
    lr_scale: factor on the rate of masks and controls.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.dim() > 1 or decay == "all"]
    plain = [p for p in trained if p.dim() <= 1 and decay != "all"]
    parts = ((decayed, weight_decay), (plain, 0.0))
    groups = [{"params": params, "lr": lr, "weight_decay": decay} for params, decay in parts if params]
    optimiser = torch.optim.AdamW(own_rate(groups, model, lr_scale), lr=lr, betas=tuple(betas), fused=fused)
    return scheduled(optimiser, warmup, steps, schedule)


def own_rate(groups: list[dict[str, Any]], model: nn.Module, factor: float) -> list[dict[str, Any]]:
    """An optimiser's groups of parameters, with `factor` on the learning rate of masks and controls (`mask.lr_scale`).

    Each group needs its "lr". A group that holds both kinds is split; with a factor of 1 nothing changes.
    """
    if factor == 1:
        return groups
    own = {id(parameter) for part in additions(model) for parameter in part.parameters()}
    split = []
    for group in groups:
        for rate, wanted in ((1.0, False), (factor, True)):
            found = [parameter for parameter in group["params"] if (id(parameter) in own) == wanted]
            split += [{**group, "params": found, "lr": rate * group["lr"]}] if found else []
    return split


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
