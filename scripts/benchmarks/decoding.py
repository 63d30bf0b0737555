r"""One step of decoding behind a long prompt, with masks beside the same model without: a ratio for each kind of mask.

    python -m scripts.benchmark decoding --out docs/results/benchmark_decoding_cpu.json --page docs/fused.md
    python -m scripts.benchmark decoding --tokens 834 --dim 512 --heads 8

The models take turns, and the median of the steps counts. The keys, values and mask columns of the prompt are kept
(lcaam.Memory), so a step costs O(N (d + R)). That every step equals the whole sequence's last row is tested
(tests/lcaam/test_growing.py).
"""

import argparse
import statistics
import time

import torch

from lcaam import Encoder, LayerMasks, Memory
from scripts.benchmarks.common import about, at_least_one

STEPS_APART = 3  # steps before those that count
MASKS = {  # name -> what LayerMasks gets beside the sizes
    "fixed, one for all layers": dict(scope="shared", length="fixed"),
    "fixed, one per layer": dict(scope="per_layer", length="fixed"),
    "content, one for all layers": dict(scope="shared", length="content"),
    "content, one per layer": dict(scope="per_layer", length="content"),
}


def model(arguments: argparse.Namespace, kind: dict | None) -> Encoder:
    torch.manual_seed(0)
    masks = None
    if kind is not None:
        sizes = dict(dim=arguments.dim, num_keys=arguments.tokens + arguments.steps + STEPS_APART, depth=3)
        masks = LayerMasks(num_layers=arguments.layers, rank=arguments.rank, fusion="mul", **sizes, **kind)
    return Encoder(arguments.dim, arguments.layers, arguments.heads, masks=masks).eval()


@torch.inference_mode()
def benchmark(arguments: argparse.Namespace) -> dict:
    models = {"none": model(arguments, None)} | {name: model(arguments, kind) for name, kind in MASKS.items()}
    prompt, token = torch.randn(1, arguments.tokens, arguments.dim), torch.randn(1, 1, arguments.dim)
    memories = {name: Memory(room=arguments.steps + STEPS_APART) for name in models}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for name, one in models.items():
        one(prompt, causal=True, memory=memories[name])
        memories[name].keep()
    for number in range(arguments.steps + STEPS_APART):
        for name, one in models.items():
            start = time.process_time()
            one(token, causal=True, memory=memories[name])
            if number >= STEPS_APART:
                seconds[name].append(time.process_time() - start)
            memories[name].keep()
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rows = [
        {"mask": name, "milliseconds": round(1000 * value, 3), "ratio": round(value / medians["none"], 3)}
        for name, value in medians.items()
    ]
    for row in rows:
        print(f"{row['mask']:<30}{row['milliseconds']:>9.3f} ms a token  {row['ratio']:>6.3f} x without a mask")
    sizes = {key: getattr(arguments, key) for key in ("tokens", "dim", "layers", "heads", "rank", "steps")}
    return about("cpu") | sizes | {"rows": rows}


def page(result: dict, figure: str) -> str:
    lines = [
        f"    {result['command']}\n",
        f"{result['machine']}, {result['threads']} thread; {result['layers']} layers of width ",
    ]
    lines[-1] += f"{result['dim']}, {result['heads']} heads; mask networks of 3 linear layers, fusion mul.\n"
    lines += ["| mask | ms a token | x without a mask |", "| --- | --- | --- |"]
    lines += [f"| {row['mask']} | {row['milliseconds']:.2f} | {row['ratio']:.2f} |" for row in result["rows"]]
    return "\n".join(lines)


def options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tokens", type=at_least_one, default=2048, help="of the prompt")
    command.add_argument("--dim", type=at_least_one, default=512)
    command.add_argument("--layers", type=at_least_one, default=4)
    command.add_argument("--heads", type=at_least_one, default=8)
    command.add_argument("--rank", type=at_least_one, default=64, help="of the masks")
    command.add_argument("--steps", type=at_least_one, default=60, help="that are timed")


def check(arguments: argparse.Namespace) -> None:
    """Raises ValueError for sizes that do not fit."""
    if arguments.dim % arguments.heads:
        raise ValueError(f"--dim {arguments.dim} is not a multiple of --heads {arguments.heads}")
