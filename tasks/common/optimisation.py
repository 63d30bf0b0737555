"""The optimiser and schedules that the tasks share: AdamW with a linear warm-up, and what follows it.

A schedule is a key of AFTER. "wsd" (warm-up, stable, decay) keeps the rate constant up to its last fifth, so that runs
of different lengths have their first steps in common (tasks/common/budgets.py).
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from lcaam.plan import additions

Schedule = Literal["cosine", "linear", "constant", "wsd"]
FALL = 0.2  # of the steps after the warm-up, at the end of schedule wsd
AFTER: dict[str, Callable[[float], float]] = {  # by the share of the steps after the warm-up that is done
    "cosine": lambda share: 0.5 * (1 + math.cos(math.pi * share)),
    "linear": lambda share: 1.0 - share,
    "constant": lambda share: 1.0,
    "wsd": lambda share: min(1.0, (1.0 - share) / FALL),
}


def adamw(
    model: nn.Module,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float],
    warmup: float,
    steps: int,
    schedule: Schedule = "cosine",
    decay: Literal["matrices", "all"] = "matrices",
    fused: bool = False,
    lr_scale: float = 1.0,
    final: float = 0.0,
) -> dict:
    """Lightning's optimiser configuration.

    warmup: share of `steps` in [0, 1]; steps: updates of the whole training. decay: "matrices" leaves out vectors
    (biases, gains), "all" does not. fused: one kernel for all parameters; several times as fast for many small ones.
    lr_scale: factor on the rate of masks and controls. final: as in `rate_factor`.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.dim() > 1 or decay == "all"]
    plain = [p for p in trained if p.dim() <= 1 and decay != "all"]
    parts = ((decayed, weight_decay), (plain, 0.0))
    groups = [{"params": params, "lr": lr, "weight_decay": decay} for params, decay in parts if params]
    optimiser = torch.optim.AdamW(own_rate(groups, model, lr_scale), lr=lr, betas=tuple(betas), fused=fused)
    return scheduled(optimiser, warmup, steps, schedule, final)


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
    optimiser: torch.optim.Optimizer, warmup: float, steps: int, schedule: Schedule, final: float = 0.0
) -> dict:
    """Lightning's optimiser configuration of `optimiser`; warmup, steps and final as in `adamw`."""

    def at(step: int) -> float:
        return rate_factor(step, steps, warmup, schedule, final)

    factor = torch.optim.lr_scheduler.LambdaLR(optimiser, at)
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": factor, "interval": "step"}}


def rate_factor(step: int, steps: int, warmup: float, schedule: Schedule, final: float = 0.0) -> float:
    """The factor on the learning rate at `step`, in [0, 1]. It rises linearly over the first share `warmup` of the
    steps; the schedule says what it is then. final: what a schedule that falls falls to, in place of 0."""
    rise = max(1, round(warmup * steps)) if warmup else 0
    if step < rise:
        return (step + 1) / rise
    return final + (1.0 - final) * AFTER[schedule](min(1.0, (step - rise) / max(1, steps - rise)))
