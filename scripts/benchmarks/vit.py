"""One training step of ViT-B/16 with grafted masks, beside the step without; prints a table of ratios, writes JSON.

    python -m scripts.benchmark vit --out docs/results/benchmark_vit_cpu.json                 (about 11 minutes)
    python -m scripts.benchmark vit --scopes per_layer --hidden 192 --fusions add mul         (the rows with a target)
    python -m scripts.benchmark vit --blocks 3 --backends reference chunked --no-memory       (what the backend costs)

The step: forward with cross-entropy; backward; AdamW. On a CPU, with random images and weights. All rows train the
same ViT: each is a copy of timm's model that shares its weights and their optimiser's state, and has masks (or what a
control spends their parameters on) of its own. Ratios are to timm's model without a graft.

A round runs every model in it once, in turns, and the step without masks is in every round. Rows with a target are in
all --rounds, the others in --other-rounds of them; if no row has a target, all are in all. A ratio is the median of the
row's steps over the median of the steps without masks in the same rounds; low and high are those of single rounds.
Ratios come from the CPU time of this process (--clock wall for the other), which neighbours on the machine disturb
less; the step's ratio is given for both clocks.

Memory: the most that tensors took during a step above what they took before it (torch's memory profiler, in the
step that warms up): activations, gradients and work space, but not weights and optimiser states, which exist. What
malloc keeps beyond that differs from run to run (the resident set grew by 1.2 to 1.9 times as much) and is not in it.
"""

import argparse
import copy
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import accumulate, pairwise, product
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lcaam import Fusion
from lcaam.backends import BACKENDS
from lcaam.controls import CONTROLS
from lcaam.integrations.timm import graft
from lcaam.stack import SCOPES
from scripts.benchmarks.common import about, at_least_one

MODEL, PATCH, HEAD, CLASSES = "vit_base_patch16_224", 16, 64, 1000
SIZES = {"batch": 8, "blocks": 12, "image": 224, "width": 768}
NOTES = {"blocks": "blocks of the ViT", "image": "pixels per side", "width": f"width of the ViT; of a head: {HEAD}"}
TARGETS = {"add": 1.10, "mul": 1.20}  # highest ratio of a step at SIZES with per_layer masks of depth 3 and hidden 192
PARTS = ("forward", "backward", "optimiser")
CLOCKS = {"cpu": time.process_time, "wall": time.perf_counter}
RATE = 1e-5  # low, so that a hundred steps on one batch do not end in gradients of zero


def options(command: argparse.ArgumentParser) -> None:
    scopes = [scope for scope in SCOPES if scope != "none"]
    fusions = [fusion.value for fusion in Fusion if fusion is not Fusion.none]
    controls = [control for control in CONTROLS if control != "none"]
    command.add_argument("--scopes", nargs="*", default=scopes, choices=scopes)
    command.add_argument("--fusions", nargs="*", default=fusions, choices=fusions)
    command.add_argument(
        "--hidden", type=at_least_one, nargs="+", default=[192, 768], help="widths of the mask network"
    )
    command.add_argument("--depth", type=at_least_one, default=3, help="linear layers of a mask")
    command.add_argument("--backends", nargs="+", default=["auto"], choices=["auto", *BACKENDS])
    command.add_argument("--controls", nargs="+", default=[], choices=controls, help="sized like per_layer's masks")
    command.add_argument("--rounds", type=at_least_one, default=7, help="rounds of the rows that have a target")
    command.add_argument("--other-rounds", type=at_least_one, default=2, help="rounds of the other rows")
    command.add_argument("--clock", default="cpu", choices=CLOCKS, help="which one the ratios are from")
    command.add_argument("--no-memory", action="store_true", help="times only")
    for name, size in SIZES.items():
        command.add_argument(f"--{name}", type=at_least_one, default=size, help=NOTES.get(name))


def check(arguments: argparse.Namespace) -> None:
    """Raises ValueError for what cannot be measured."""
    a = arguments
    if a.image % PATCH:
        raise ValueError(f"--image {a.image}: patches have {PATCH} pixels per side; give a multiple of {PATCH}")
    if a.width % HEAD:
        raise ValueError(f"--width {a.width}: heads have {HEAD} features; give a multiple of {HEAD}")
    if a.clock == "cpu" and a.threads > 1:
        raise ValueError(f"--clock cpu adds up what {a.threads} threads do at the same time; use --clock wall")
    if a.other_rounds > a.rounds:
        raise ValueError(f"--other-rounds {a.other_rounds} is part of --rounds, which is {a.rounds}")
    if "sdpa" in a.backends and (wrong := [name for name in a.fusions if Fusion.parse(name).multiplies]):
        raise ValueError(f"--backends sdpa only adds to scores; leave {' and '.join(wrong)} out of --fusions")
    if not rows_of(a):
        raise ValueError("nothing to measure: give --scopes and --fusions, or --controls")


@dataclass(frozen=True)
class Row:
    """What a row of the table grafts."""

    scope: str
    hidden: int
    fusion: str
    depth: int
    backend: str = "auto"
    control: str = "none"

    @property
    def name(self) -> str:
        mask = self.scope if self.control == "none" else self.control
        text = f"{mask} {self.hidden}" + (f" {self.fusion}" if self.control == "none" else "")
        return text if self.backend == "auto" else f"{text} {self.backend}"

    @property
    def frequent(self) -> bool:
        """Whether the row has a target at full size; at any size it is then in all --rounds."""
        masks = (self.control, self.scope, self.hidden, self.depth)
        return masks == ("none", "per_layer", 192, 3) and self.fusion in TARGETS

    def target(self, arguments: argparse.Namespace) -> float | None:
        full = all(getattr(arguments, name) == size for name, size in SIZES.items())
        return TARGETS[self.fusion] if self.frequent and full else None


def rows_of(arguments: argparse.Namespace) -> list[Row]:
    a = arguments
    chosen = product(*map(dict.fromkeys, (a.scopes, a.hidden, a.fusions, a.backends)))
    rows = [Row(scope, hidden, fusion, a.depth, backend) for scope, hidden, fusion, backend in chosen]
    spent = product(*map(dict.fromkeys, (a.controls, a.hidden)))
    return rows + [Row("per_layer", hidden, "mul", a.depth, control=control) for control, hidden in spent]


def rounds_of(rows: list[Row], rounds: int, other_rounds: int) -> list[list[Row]]:
    """The rows of every round: frequent ones in all, the others in `other_rounds`, spread over the whole run."""
    often = [row for row in rows if row.frequent] or rows
    seldom = [row for row in rows if row not in often]
    found = [list(often) for _ in range(rounds)]
    for lap in range(other_rounds):
        first, last = lap * rounds // other_rounds, (lap + 1) * rounds // other_rounds
        for number, row in enumerate(seldom):
            found[first + number * (last - first) // len(seldom)].append(row)
    return found


# -- steps ------------------------------------------------------------------------------------------------------------


@dataclass
class Training:
    """A model, the optimisers of its weights, and the batch it trains on."""

    vit: nn.Module
    optimisers: list[torch.optim.Optimizer]
    images: Tensor  # (B, 3, image, image)
    labels: Tensor  # (B,)
    new: int = 0  # parameters that the ViT without a graft does not have

    def step(self) -> list[dict[str, float]]:
        """One step; the readings of both clocks at its start and after each of the PARTS."""
        times = [now()]
        loss = F.cross_entropy(self.vit(self.images), self.labels)
        times.append(now())
        loss.backward()
        times.append(now())
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        times.append(now())
        if not loss.isfinite():
            raise FloatingPointError(f"the loss is {loss.item()}")
        return times


def now() -> dict[str, float]:
    return {name: clock() for name, clock in CLOCKS.items()}


def without_masks(arguments: argparse.Namespace) -> Training:
    """timm's model as it comes, in training mode."""
    a = arguments
    torch.manual_seed(0)
    vit = timm.create_model(MODEL, img_size=a.image, depth=a.blocks, embed_dim=a.width, num_heads=a.width // HEAD)
    images, labels = torch.randn(a.batch, 3, a.image, a.image), torch.randint(CLASSES, (a.batch,))
    return Training(vit.train(), [optimiser_of(vit.parameters())], images, labels)


def with_masks(row: Row, plain: Training) -> Training:
    """The same model with a graft: the weights are the very same tensors, only the masks are new."""
    vit = copy.deepcopy(plain.vit, {id(weight): weight for weight in plain.vit.parameters()})
    graft(vit, row.scope, row.fusion, row.depth, row.hidden, backend=row.backend, control=row.control)
    new = list(vit.lcaam.parameters())
    optimisers = [*plain.optimisers, optimiser_of(new)]
    return Training(vit, optimisers, plain.images, plain.labels, sum(weight.numel() for weight in new))


def optimiser_of(weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW whose state exists already, as in any step but the first."""
    optimiser = torch.optim.AdamW(weights, lr=RATE)
    for group in optimiser.param_groups:
        for weight in group["params"]:
            weight.grad = torch.zeros_like(weight)
    optimiser.step()
    optimiser.zero_grad()
    return optimiser


# -- memory -----------------------------------------------------------------------------------------------------------


def peak_bytes(step: Callable[[], object]) -> int:
    """The most that torch's tensors on the CPU took during a step, above what they took before it."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler would write to stderr that it starts and stops
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event for event in events if event["name"] == "[memory]" and event["args"]["Device Type"] == 0]
    if not changes:
        raise RuntimeError(f"torch {torch.__version__}'s profiler recorded no memory; use --no-memory")
    sizes = (event["args"]["Bytes"] for event in sorted(changes, key=lambda event: event["ts"]))  # negative: freed
    return max(accumulate(sizes, initial=0))


# -- the benchmark ----------------------------------------------------------------------------------------------------


def name_of(row: Row | None) -> str:
    return "without masks" if row is None else row.name


@dataclass
class Times:
    """A row's steps, and the steps without masks in the same rounds; each is a dict of clock -> seconds of PARTS."""

    own: list[dict[str, list[float]]] = field(default_factory=list)
    base: list[dict[str, list[float]]] = field(default_factory=list)

    def ratio(self, clock: str, part: str | None = None) -> float:
        return seconds(self.own, clock, part) / seconds(self.base, clock, part)

    def by_round(self, clock: str) -> list[float]:
        return [sum(own[clock]) / sum(base[clock]) for own, base in zip(self.own, self.base, strict=True)]


def seconds(steps: list[dict[str, list[float]]], clock: str, part: str | None = None) -> float:
    """Median over the steps, of one part or of the whole."""
    taken = (sum(step[clock]) if part is None else step[clock][PARTS.index(part)] for step in steps)
    return statistics.median(taken)


def between(readings: list[dict[str, float]]) -> dict[str, list[float]]:
    return {clock: [end[clock] - start[clock] for start, end in pairwise(readings)] for clock in CLOCKS}


def measured(trainings: dict[Row | None, Training], rounds: list[list[Row]]) -> dict[Row, Times]:
    """Every row's times. Each round starts with another model."""
    times = {row: Times() for row in trainings if row}
    for number, rows in enumerate(rounds):
        models = [None, *rows]
        first = number % len(models)
        found = {row: between(trainings[row].step()) for row in models[first:] + models[:first]}
        for row in rows:
            times[row].own.append(found[row])
            times[row].base.append(found[None])
        steps = ", ".join(f"{name_of(row)} {sum(found[row]['wall']):.2f} s" for row in models)
        print(f"round {number + 1} of {len(rounds)}: {steps}", flush=True)
    return times


def warmed_up(trainings: dict[Row | None, Training], memory: bool) -> dict[Row | None, int]:
    """Each model's first step, and the peak of its memory if that is wanted."""
    peaks = {}
    for number, (row, training) in enumerate(trainings.items()):
        text = f"warm-up {number + 1} of {len(trainings)}: {name_of(row)}"
        if memory:
            peaks[row] = peak_bytes(training.step)
            text += f", {peaks[row] / 2**20:.0f} MiB"
        else:
            training.step()
        print(text, flush=True)
    return peaks


def benchmark(arguments: argparse.Namespace) -> dict[str, Any]:
    a, start = arguments, time.perf_counter()
    rows, plain = rows_of(a), without_masks(a)
    trainings = {None: plain} | {row: with_masks(row, plain) for row in rows}
    peaks = warmed_up(trainings, not a.no_memory)
    times = measured(trainings, rounds_of(rows, a.rounds, a.other_rounds))
    found = [summary(row, times[row], trainings[row].new, peaks, a) for row in rows]

    often = max(times.values(), key=lambda of_row: len(of_row.base)).base
    base = {"parameters": sum(weight.numel() for weight in plain.vit.parameters()), "rounds": len(often)}
    for clock in CLOCKS:
        base[clock] = {part: seconds(often, clock, part) for part in PARTS} | {"step": seconds(often, clock)}
    base["peak_bytes"] = peaks.get(None)
    print("\n" + table(base, found, a.clock), flush=True)
    kept = {key: value for key, value in vars(a).items() if key not in ("out", "name", "threads")}
    about_run = about("cpu") | {"timm": timm.__version__, "seconds": time.perf_counter() - start}
    return about_run | {"settings": kept, "without_masks": base, "rows": found}


def summary(row: Row, times: Times, new: int, peaks: dict, arguments: argparse.Namespace) -> dict[str, Any]:
    """A row of the result: ratios to the step without masks."""
    clock, single = arguments.clock, times.by_round(arguments.clock)
    result: dict[str, Any] = vars(row) | {"name": row.name, "new_parameters": new, "rounds": len(single)}
    result |= {"step": times.ratio(clock), "low": min(single), "high": max(single)}
    result |= {part: times.ratio(clock, part) for part in PARTS}
    result |= {f"step_{name}": times.ratio(name) for name in CLOCKS}
    result["seconds"] = {name: seconds(times.own, name) for name in CLOCKS}
    result["peak_bytes"] = peaks.get(row)
    result["memory"] = peaks[row] / peaks[None] if peaks else None
    target = row.target(arguments)
    return result | {"target": target, "met": None if target is None else result["step"] <= target}


def table(base: dict[str, Any], rows: list[dict[str, Any]], clock: str) -> str:
    """Markdown; all but the first line are ratios to it."""
    other = next(name for name in CLOCKS if name != clock)
    parts = " + ".join(f"{part} {base[clock][part]:.3f}" for part in PARTS)
    memory = "" if base["peak_bytes"] is None else f"; {base['peak_bytes'] / 2**20:.0f} MiB"
    text = f"Without masks: {base['parameters'] / 1e6:.2f} M parameters; step {base[clock]['step']:.3f} s = {parts}"
    lines = [f"{text} ({clock} clock, {base['rounds']} rounds){memory}. Beside it:", ""]
    columns = ["row", "new parameters", "step", "low-high", "forward", "backward", f"step ({other})", "memory"]
    columns += ["rounds", "target"]
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        target = "" if row["target"] is None else f"{row['target']:.2f} {'met' if row['met'] else 'MISSED'}"
        cells = [row["name"], f"{row['new_parameters'] / 1e6:.3f} M", f"{row['step']:.3f}"]
        cells += [f"{row['low']:.3f}-{row['high']:.3f}", f"{row['forward']:.3f}", f"{row['backward']:.3f}"]
        cells += [f"{row[f'step_{other}']:.3f}", "" if row["memory"] is None else f"{row['memory']:.3f}"]
        lines.append(f"| {' | '.join([*cells, str(row['rounds']), target])} |")
    return "\n".join(lines)
