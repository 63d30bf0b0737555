"""Errors of attention with masks in bfloat16 and float16, beside torch's own attention without a mask.

    python -m scripts.benchmark precision --out docs/results/precision.json --page docs/results/precision.md

All inputs are exactly representable in the low precision, so the difference from float64 is what the computation
loses. An error is the norm of the difference by the norm of the float64 result; of gradients it is the largest over the
inputs (query, key, value, and the mask's left, right and bias). The gradient that comes in is the same for all.
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

from lcaam import Mask, attention
from scripts.benchmarks.attention_rivals import BACKENDS, FUSIONS
from scripts.benchmarks.common import about, at_least_one

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
SPREADS = (1.0, 3.0)  # standard deviation of the scaled scores


def inputs(arguments: argparse.Namespace, spread: float, dtype: torch.dtype) -> list[Tensor]:
    """query, key, value, left, right, bias and the gradient of the output, in `dtype`."""
    generator = torch.Generator().manual_seed(arguments.seed)
    length, rank = arguments.length, arguments.rank

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    query, key, value, grad = (normal(1, arguments.heads, length, arguments.width) for _ in range(4))
    left, right = normal(1, 1, length, rank) * rank**-0.5, normal(1, 1, length, rank) * 0.3
    bias = 1 + 0.3 * normal(1, 1, 1, length)
    return [tensor.to(dtype) for tensor in (query * spread, key, value, left, right, bias, grad)]


def outcome(leaves: list[Tensor], fusion: str | None, backend: str) -> list[Tensor]:
    """Output and gradients. fusion: None is torch's own attention without a mask."""
    *inner, grad = leaves
    inner = [leaf.detach().requires_grad_() for leaf in inner]
    if fusion is None:
        inner = inner[:3]
        out = F.scaled_dot_product_attention(*inner)
    else:
        out = attention(*inner[:3], Mask(*inner[3:]), fusion=fusion, backend=backend)
    return [out, *torch.autograd.grad(out, inner, grad)]


def error(found: Tensor, exact: Tensor) -> float:
    return float((found.detach().double() - exact).norm() / exact.norm())


def benchmark(arguments: argparse.Namespace) -> dict:
    rows = []
    for name, dtype in DTYPES.items():
        for spread in SPREADS:
            leaves = inputs(arguments, spread, dtype)
            double = [leaf.double() for leaf in leaves]
            for fusion in (None, *FUSIONS):
                exact = outcome(double, fusion, "reference")
                exact = [tensor.detach() for tensor in exact]
                for backend in ("torch",) if fusion is None else BACKENDS[:3]:
                    if backend == "sdpa" and fusion in ("mul", "temper"):
                        continue  # torch's fused attention only adds to the score
                    found = outcome(leaves, fusion, backend)
                    errors = [error(one, other) for one, other in zip(found, exact, strict=True)]
                    row = {"dtype": name, "spread": spread, "fusion": fusion or "none", "backend": backend}
                    rows.append(row | {"output": errors[0], "gradients": max(errors[1:])})
    settings = {key: getattr(arguments, key) for key in ("heads", "length", "width", "rank", "seed")}
    result = about("cpu") | settings | {"rows": rows}
    print(table(result))
    return result


def plain(result: dict, row: dict) -> dict:
    """The row of torch's own attention in the same dtype and at the same spread."""
    same = [other for other in result["rows"] if other["backend"] == "torch"]
    return next(other for other in same if (other["dtype"], other["spread"]) == (row["dtype"], row["spread"]))


def table(result: dict) -> str:
    lines = [
        "| dtype | spread of scores | fusion | backend | output error | to torch's | gradient error | to torch's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        torchs = plain(result, row)
        cells = [row["dtype"], f"{row['spread']:g}", row["fusion"], row["backend"]]
        for field in ("output", "gradients"):
            cells += [f"{row[field]:.1e}", f"{row[field] / torchs[field]:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def page(result: dict, figure: str) -> str:
    """The text between the marks of the page; there is no figure."""
    rows = [row for row in result["rows"] if row["backend"] != "torch"]
    said = []
    for field in ("output", "gradients"):
        worst = max(rows, key=lambda row: row[field] / plain(result, row)[field])
        where = f"{worst['dtype']}, {worst['fusion']}, {worst['backend']}, spread {worst['spread']:g}"
        said.append(
            f"- {field}: at worst {worst[field] / plain(result, worst)[field]:.2f} times torch's error ({where})"
        )
    size = f"{result['heads']} heads of width {result['width']}, N = {result['length']}, rank {result['rank']}"
    about_it = f"{size}, a CPU, torch {result['torch']}."
    return "\n\n".join([f"    {result['command']}", about_it, "\n".join(said), table(result)])


def options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--heads", type=at_least_one, default=4)
    command.add_argument("--length", type=at_least_one, default=197, help="number of tokens")
    command.add_argument("--width", type=at_least_one, default=64, help="width of a head")
    command.add_argument("--rank", type=at_least_one, default=64, help="rank of the mask")
    command.add_argument("--seed", type=int, default=0)


def check(arguments: argparse.Namespace) -> None:
    """Every combination of the options can be measured."""
