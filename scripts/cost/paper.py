"""The paper's Table 4 (audio description), and how many tokens of text its FLOPs are for.

`extra_linear` is Table 3's "same number of parameters", `extra_layers` its "stacked encoder layers", of which only the
parameters are given: 108 M more than Multi-LCAAM's, while this project's control matches Multi-LCAAM's. The shared
mask has no row there.
"""

from collections.abc import Callable
from fractions import Fraction

import torch
from omegaconf import DictConfig

from scripts.cost.counting import Inputs, built, counted
from tasks.common.flops import count_flops

MOST = 100_000  # tokens
TASK, SCALE = "tasks.audio_description.module.AudioDescription", "paper"
TABLE_4 = {  # parameters, FLOPs, MACs, milliseconds (on which device the paper does not say); None: not given
    "none": (6.930e9, 3.39e12, 1.69e12, 87.57),
    "extra_linear": (7.072e9, 3.45e12, 1.80e12, 89.12),
    "extra_layers": (7.180e9, None, None, None),
    "multi_lcaam": (7.072e9, 3.43e12, 1.71e12, 88.60),
}


def applies(cfg: DictConfig) -> bool:
    """The paper has a cost table of this task, at its own scale."""
    return (cfg.task._target_, cfg.scale_name) == (TASK, SCALE)


def nearest(flops: Callable[[int], int], target: float, at: tuple[int, int, int] = (64, 128, 256)) -> tuple[int, int]:
    """The number of tokens, up to MOST, whose FLOPs are nearest to `target`, and these FLOPs.

    `flops` is called for three numbers: attention makes it a polynomial of degree 2, which they determine.
    """
    values = [Fraction(flops(tokens)) for tokens in at]

    def between(tokens: int) -> Fraction:  # Lagrange
        total = Fraction(0)
        for i, (place, value) in enumerate(zip(at, values, strict=True)):
            others = [other for j, other in enumerate(at) if j != i]
            total += value * (tokens - others[0]) * (tokens - others[1]) / ((place - others[0]) * (place - others[1]))
        return total

    low, high = 0, MOST  # flops(low) < target <= flops(high), if that is possible
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if between(middle) >= target else (middle, high)
    best = min((low, high), key=lambda tokens: abs(between(tokens) - Fraction(target)))
    return best, int(between(best))


def conventions(cfg: DictConfig, inputs: Inputs) -> list[str]:
    """Sentences about what the paper's figures count. cfg: configuration of the row without a mask.

    The language model has to read more tokens than the prompt has.
    """
    module, target = built(cfg, inputs, "meta"), TABLE_4["none"][1]

    def whole(tokens: int) -> int:
        return counted(cfg, module, inputs.batch(module, tokens))["flops"]

    def alone(tokens: int) -> int:
        llm, ids = module.model.llm, torch.zeros(1, tokens, dtype=torch.long, device="meta")
        return count_flops(llm, lambda: llm(input_ids=ids, use_cache=False))

    lengths = [nearest(flops, target) for flops in (alone, whole)]
    alone_at, whole_at = (f"{tokens} tokens ({flops / 1e12:.3f} T)" for tokens, flops in lengths)
    return [
        "What reproduces the baseline's 3.39 TFLOPs: one teacher-forced forward pass of one sample, "
        f"{alone_at} through the language model alone or {whole_at} through the whole model.",
        "The paper's MACs are half of its FLOPs (1.69 of 3.39, 1.71 of 3.43), but for extra_linear (1.80 of 3.45).",
        "The paper's Multi-LCAAM adds 0.03 to 0.05 TFLOPs as rounded; here it reads each of the encoder's tokens once.",
    ]
