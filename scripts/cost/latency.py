"""How long a row's calls take on this machine, and how much memory: warm-up, then median and 90th percentile.

    row = ready(cfg, inputs, parameters=86_567_656, tokens=254, device="cpu", limit=memory_limit("cpu", None))
    latency(row, "cpu", repeats=10, warm_up=2, base=row_without_mask)  # in turns: ratios survive a busy machine

Memory is the most that tensors took during a call above what they took before it; weights are not in it. On a CPU it
is what torch's profiler records, on a GPU what CUDA's allocator counts. A model whose weights do not fit into the limit
is not built: then its part is measured (audio description: the encoder with its masks), or nothing.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn

from scripts.benchmarks.vit import peak_bytes
from scripts.cost.counting import Inputs, built
from scripts.cost.hooks import hooks_of
from tasks.common.cost import Calls

BYTES = 4  # size of a weight: models are built in float32; a language model gets its own type afterwards


def memory_limit(device: str, gibibytes: float | None) -> int:
    """Bytes that weights may take: as given, else 4 GiB on a CPU and 9 tenths of what is free on a GPU."""
    if gibibytes is not None:
        return int(gibibytes * 2**30)
    return 4 * 2**30 if device == "cpu" else int(0.9 * torch.cuda.mem_get_info(device)[0])


def percentile_90(seconds: list[float]) -> float:
    """The smallest of the values that at least 90 % do not exceed."""
    return sorted(seconds)[math.ceil(0.9 * len(seconds)) - 1]


def now(device: str) -> tuple[float, float]:
    """Seconds on the wall and of this process, once everything that was started on the device is done."""
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter(), time.process_time()


@torch.no_grad()
def timed(
    call: Callable[[], object], device: str, repeats: int, warm_up: int, beside: Callable[[], object] | None = None
) -> dict[str, Any]:
    """median and p90 in seconds, over `repeats` calls; peak_bytes of one more.

    beside: another call that takes turns with it; of_beside is then the ratio of their medians. It is a ratio of CPU
    times if one thread of a CPU works: other programs on the machine disturb these less.
    """
    both, clock = [call] if beside is None else [beside, call], int(device == "cpu" and torch.get_num_threads() == 1)
    taken: dict[Callable, list[tuple[float, float]]] = {each: [] for each in both}
    for turn in range(warm_up + repeats):
        for each in both:
            start = now(device)
            each()
            end = now(device)
            if turn >= warm_up:
                taken[each].append((end[0] - start[0], end[1] - start[1]))
    wall = [seconds for seconds, _ in taken[call]]
    found = {"median": statistics.median(wall), "p90": percentile_90(wall), "repeats": repeats, "of_beside": None}
    if beside is not None:
        ours, theirs = (statistics.median(seconds[clock] for seconds in taken[each]) for each in (call, beside))
        found["of_beside"] = ours / theirs
    return found | {"peak_bytes": peak(call, device)}


def peak(call: Callable[[], object], device: str) -> int:
    if device == "cpu":
        return peak_bytes(call)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    return torch.cuda.max_memory_allocated(device) - before


def weight_bytes(module: nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in module.parameters())


@dataclass
class Ready:
    """A row's calls. weight_bytes: size of the whole model; None if it was not built, and not_measured says why."""

    calls: Calls
    weight_bytes: int | None = None
    not_measured: str | None = None


def ready(cfg: DictConfig, inputs: Inputs, parameters: int, tokens: int, device: str, limit: int) -> Ready:
    """What can be timed of a row whose model has `parameters` parameters. limit: bytes that its weights may take."""
    task, needed = hooks_of(cfg), BYTES * parameters
    if needed <= limit:
        module = built(cfg, inputs, device)
        return Ready(task.calls(module, inputs.batch(module, tokens)), weight_bytes(task.root(module)))
    reason = f"weights of {needed / 2**30:.1f} GiB are above the limit of {limit / 2**30:.1f} GiB"
    if task.part is None:
        return Ready({}, not_measured=reason)
    module = built(cfg, inputs, device, small=True)
    return Ready(task.part(module, inputs.sample(module.device)), not_measured=reason)


def latency(row: Ready, device: str, repeats: int, warm_up: int, base: Ready | None = None) -> dict[str, Any]:
    """calls: name -> what `timed` found, in turns with the same call of `base`; and what `row` says of itself."""
    calls = {
        name: timed(call, device, repeats, warm_up, base.calls.get(name) if base else None)
        for name, call in row.calls.items()
    }
    return {"device": device, "weight_bytes": row.weight_bytes, "not_measured": row.not_measured, "calls": calls}
