"""Time and peak memory of attention with masks, beside plain attention; prints ratios, writes JSON and a plot.

    python -m scripts.benchmark attention --device cpu --out docs/results/benchmark_attention_cpu.json

Every figure is forward and backward together. Times: the backends take turns, the median of the repeats counts.
Memory: the peak's increase over just before the call, each measured in a process of its own (CPU) or by CUDA's
allocator. Ratios are to backend "reference" in the same run; absolute times belong to the machine that the JSON names.
"""

import argparse
import ctypes
import multiprocessing
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from lcaam import Fusion, Mask, attention
from scripts.benchmarks.common import about

BACKENDS = ("reference", "sdpa", "chunked", "auto")


def make(batch: int, heads: int, length: int, width: int, rank: int, device: str) -> list[Tensor]:
    """query, key, value, left, right, bias of one mask for all heads, with values near the neutral 1 of fusion mul."""
    torch.manual_seed(0)
    shapes = [(batch, heads, length, width)] * 3 + [(batch, 1, length, rank), (1, 1, length, rank), (1, 1, 1, length)]
    leaves = [torch.randn(shape, device=device) for shape in shapes]
    spread = 0.2 * (64 / rank) ** 0.5  # the mask's deviation stays the same at any rank
    leaves[3:] = [leaves[3] * spread, leaves[4] * 0.2, 1 + leaves[5] * 0.2]
    return [leaf.requires_grad_() for leaf in leaves]


def step(leaves: list[Tensor], fusion: str, backend: str) -> None:
    """One forward and backward pass."""
    query, key, value, *factors = leaves
    mask = None if fusion == "none" else Mask(*factors)
    out = attention(query, key, value, mask, fusion=fusion, backend=backend)
    torch.autograd.grad(out.sum(), leaves[:3] if mask is None else leaves)
    if out.is_cuda:
        torch.cuda.synchronize()


def seconds(leaves: list[Tensor], fusion: str, backends: list[str], repeats: int) -> dict[str, float]:
    """Median seconds per step, by backend; each backend warms up with one step, then they take turns."""
    times: dict[str, list[float]] = {backend: [] for backend in backends}
    for turn in range(repeats + 1):
        for backend in backends:
            start = time.perf_counter()
            step(leaves, fusion, backend)
            if turn > 0:
                times[backend].append(time.perf_counter() - start)
    return {backend: statistics.median(values) for backend, values in times.items()}


def resident(field: str) -> int:
    """VmRSS or VmHWM (the peak) of this process, in bytes. Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def peak_of_step(sizes: dict, fusion: str, backend: str, pipe) -> None:
    """Runs in a child process: sends the bytes by which one step raises the peak."""
    torch.set_num_threads(1)
    leaves = make(**sizes)
    ctypes.CDLL(None).malloc_trim(0)  # memory that was freed but kept would hide what the step takes
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = resident("VmRSS")
    step(leaves, fusion, backend)
    pipe.send(resident("VmHWM") - before)


def peak_bytes(sizes: dict, fusion: str, backend: str) -> int:
    """The bytes by which one step raises the peak; gradients are counted, inputs are not."""
    if sizes["device"] != "cpu":
        leaves = make(**sizes)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(leaves, fusion, backend)
        return torch.cuda.max_memory_allocated() - before
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=peak_of_step, args=(sizes, fusion, backend, there))
    child.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        raise RuntimeError(f"measuring the memory of {backend} at {sizes} failed (out of memory?)") from None
    finally:
        child.join()


def possible(backend: str, fusion: str) -> bool:
    return backend != "sdpa" or not Fusion.parse(fusion).multiplies


def benchmark(arguments: argparse.Namespace) -> dict:
    rows = []
    for length in arguments.lengths:
        batch = arguments.batch or max(1, arguments.tokens // length)
        sizes = {"batch": batch, "heads": arguments.heads, "length": length, "width": arguments.width}
        sizes |= {"rank": arguments.rank, "device": arguments.device}
        for fusion in arguments.fusions:
            backends = [backend for backend in arguments.backends if possible(backend, fusion)]
            times = seconds(make(**sizes), fusion, backends, arguments.repeats)
            peaks = {backend: peak_bytes(sizes, fusion, backend) for backend in backends if not arguments.no_memory}
            for backend in backends:
                row = {**sizes, "fusion": fusion, "backend": backend, "seconds": times[backend]}
                row["faster_than_reference"] = times["reference"] / times[backend] if "reference" in times else None
                row["peak_bytes"] = peaks.get(backend)
                rows.append(row)
                print(describe(row, peaks.get("reference")), flush=True)
    return about(arguments.device) | {"rows": rows}


def describe(row: dict, reference_peak: int | None) -> str:
    text = f"N {row['length']:>6}  B {row['batch']:>3}  {row['fusion']:<7} {row['backend']:<10}"
    text += f"{1000 * row['seconds']:>9.1f} ms"
    if row["faster_than_reference"]:
        text += f"  {row['faster_than_reference']:>5.2f} x as fast as reference"
    if row["peak_bytes"] is not None:
        text += f"  {row['peak_bytes'] / 2**20:>8.1f} MiB"
        text += f"  {row['peak_bytes'] / reference_peak:>6.3f} of its memory" if reference_peak else ""
    return text


def plot(result: dict, path: Path) -> None:
    """Draws seconds and memory over the length, one column per fusion."""
    from matplotlib.figure import Figure

    fusions = list(dict.fromkeys(row["fusion"] for row in result["rows"]))
    figure = Figure(figsize=(3 * len(fusions), 5.4), layout="constrained")
    panels = figure.subplots(2, len(fusions), squeeze=False, sharex=True, sharey="row")
    for column, fusion in enumerate(fusions):
        for panel, (field, unit) in zip(panels[:, column], (("seconds", 1.0), ("peak_bytes", 2**20)), strict=True):
            for backend in dict.fromkeys(row["backend"] for row in result["rows"]):
                points = [row for row in result["rows"] if (row["fusion"], row["backend"]) == (fusion, backend)]
                points = [row for row in points if row[field] is not None]
                line = "--" if backend == "auto" else "-"
                values = [row[field] / unit / row["batch"] for row in points]
                panel.plot([row["length"] for row in points], values, line, marker="o", markersize=3, label=backend)
            panel.set(xscale="log", yscale="log")
        panels[0, column].set_title(fusion)
        panels[1, column].set_xlabel("tokens N")
    panels[0, 0].set_ylabel("seconds per sample")
    panels[1, 0].set_ylabel("peak MiB per sample")
    panels[0, -1].legend(fontsize=8)
    figure.savefig(path, dpi=150)


def options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="cpu", help="cpu or cuda")
    command.add_argument("--lengths", type=int, nargs="+", default=[50, 197, 834, 2048, 4096], help="numbers of tokens")
    command.add_argument("--fusions", nargs="+", default=[f.value for f in Fusion], choices=[f.value for f in Fusion])
    command.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    command.add_argument("--batch", type=int, help="samples; default: as many as give about --tokens tokens")
    command.add_argument("--tokens", type=int, default=1600)
    command.add_argument("--heads", type=int, default=12)
    command.add_argument("--width", type=int, default=64, help="width of a head")
    command.add_argument("--rank", type=int, default=64, help="rank of the mask")
    command.add_argument("--repeats", type=int, default=9)
    command.add_argument("--no-memory", action="store_true", help="times only")


def check(arguments: argparse.Namespace) -> None:
    """Raises ValueError for what cannot be measured here."""
    if arguments.device == "cpu" and not arguments.no_memory and not Path("/proc/self/clear_refs").exists():
        raise ValueError("peak memory on a CPU is read from Linux' /proc; use --no-memory")
