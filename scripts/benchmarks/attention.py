r"""Time and peak memory of attention with masks, beside what a user could write with torch alone.

    python -m scripts.benchmark attention --out docs/results/benchmark_attention_cpu.json \
        --page docs/results/benchmarks.md
    python -m scripts.benchmark attention --lengths 197 --batches 1 --fusions mul --rivals eager auto
    python -m scripts.benchmark attention --device cuda --minutes 8 --costs \
        --out docs/results/benchmark_attention_cuda.json

Rivals take turns; the median of the repeats counts, as a ratio to plain SDPA (no mask) in the same turns. The clock of
a CPU run is the process's CPU time. Compiled rivals compile at their first call, which does not count. Memory: how far
one forward and backward pass raises the peak, in a process of its own (CPU) or by CUDA's allocator.

A run that is started again with the same --out goes on after the last finished cell. What would take too much memory
or time is a row with the reason. Absolute times belong to the machine of the JSON. On a GPU numbers are bfloat16 unless
--dtype says otherwise, `plain` is torch's flash kernel, and --costs keeps seconds for `auto` (lcaam/gpu_costs.json).
"""

import argparse
import ctypes
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from lcaam import Mask, explain, gpu_costs
from scripts.benchmarks import attention_page
from scripts.benchmarks.attention_rivals import (
    ADDING,
    BACKENDS,
    BATCHES,
    COMPILED,
    CPU_RIVALS,
    FUSIONS,
    GPU_BATCHES,
    GPU_LENGTHS,
    GPU_RIVALS,
    LENGTHS,
    RIVALS,
    Rival,
    build,
)
from scripts.benchmarks.common import about, at_least_one, write_result

KEYS = ("length", "batch", "fusion", "gradients", "rival")  # what makes a row
SETTINGS = (
    "torch",
    "threads",
    "machine",
    "heads",
    "width",
    "rank",
    "device",
    "dtype",
)  # in which all rows of a file agree
ENOUGH = {"cpu": 2**31, "cuda": 2**35}  # bytes that a rival may take
COPIES = {True: 5, False: 3}  # of all scores that the equation holds at once, with and without gradients
SLOW = 60_000_000  # pairs of queries and keys over all heads, from which one call takes seconds
MOST = {"cpu": 12 * 8192**2, "cuda": 8 * 12 * 8192**2 * 2}  # pairs over all heads that are measured at all
BITS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
COMPILED_LENGTHS = (197, 400, 834, 2048)  # each size is compiled for itself
COMPILED_SAMPLES = {1: 2048, 8: 400}  # batches and their longest sequences that are compiled
HEADS = 12  # unless --heads
IN_ALL = 1.5  # seconds that the repeats of one rival should take together
ONCE = 6.0  # a call that takes longer is not repeated


def make(
    batch: int, heads: int, length: int, width: int, rank: int, device: str, dtype: str = "float32"
) -> list[Tensor]:
    """query, key, value, left, right, bias of one mask for all heads, with values near the neutral 1 of fusion mul."""
    torch.manual_seed(0)
    shapes = [(batch, heads, length, width)] * 3 + [(batch, 1, length, rank), (1, 1, length, rank), (1, 1, 1, length)]
    leaves = [torch.randn(shape, device=device) for shape in shapes]
    spread = 0.2 * (64 / rank) ** 0.5  # the mask's deviation stays the same at any rank
    leaves[3:] = [leaves[3] * spread, leaves[4] * 0.2, 1 + leaves[5] * 0.2]
    return [leaf.to(BITS[dtype]).requires_grad_() for leaf in leaves]


def step(rival: Rival, leaves: list[Tensor], gradients: bool) -> None:
    """One forward and, with gradients, backward pass."""
    if gradients:
        out = rival(*leaves)
        torch.autograd.grad(out.sum(), leaves, allow_unused=True)  # plain attention has no mask
    else:
        with torch.no_grad():
            out = rival(*(leaf.detach() for leaf in leaves))
    if out.is_cuda:
        torch.cuda.synchronize()


def refusal(rival: str, length: int, batch: int, fusion: str, gradients: bool, heads: int, device: str) -> str | None:
    """Why a rival is not measured; None if it is."""
    pairs = batch * heads * length**2
    if pairs > MOST[device]:
        return f"more than {MOST[device] / 2**20:.0f} Mi pairs over all heads"
    if rival == "triton" and device == "cpu":
        return "the fused kernels run on CUDA devices"
    if rival in ("dense", "sdpa") and fusion not in ADDING:
        return "torch's fused attention only adds to the score"
    if rival == "flex" and gradients and device == "cpu":
        return "FlexAttention has no gradients on a CPU"
    if pairs > SLOW and device == "cpu" and fusion not in ("add", "mul"):
        return "one call takes seconds: add and mul stand for the others"
    if rival in COMPILED and fusion not in ("add", "mul"):
        return "compiling takes long: add and mul stand for the others"
    if (
        rival in COMPILED
        and device == "cpu"
        and (length not in COMPILED_LENGTHS or length > COMPILED_SAMPLES.get(batch, 0))
    ):
        return "compiling takes long: other sizes stand for this one"
    whole = rival in ("eager", "reference", "compiled", "compiled lcaam") or (rival in ("dense", "sdpa") and gradients)
    if whole and 4 * pairs * COPIES[gradients] > ENOUGH[device]:
        return f"about {4 * pairs * COPIES[gradients] / 2**30:.1f} GiB of scores"
    return None


def seconds(rivals: dict[str, Rival], leaves: list[Tensor], gradients: bool, repeats: int) -> tuple[dict, dict]:
    """Median seconds by rival, and why others have none: the first call of a compiled rival may fail.

    Calls that take seconds are repeated less often, at least once; then their first call counts, too.
    """
    clock = time.perf_counter if leaves[0].is_cuda else time.process_time
    times: dict[str, list[float]] = {}
    failed = {}
    for name, rival in rivals.items():
        start = clock()
        try:
            step(rival, leaves, gradients)
        except RuntimeError as error:  # what a compiler raises is one, and a GPU without room
            if name not in COMPILED and not leaves[0].is_cuda:
                raise
            failed[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"
            continue
        times[name] = [clock() - start]
    slowest = max(values[0] for name, values in times.items() if name not in COMPILED)
    turns = 0 if slowest > ONCE else min(repeats, max(3, int(IN_ALL / slowest)))
    order = list(times)
    for _ in range(turns):
        for name in order:
            start = clock()
            step(rivals[name], leaves, gradients)
            times[name].append(clock() - start)
        order = order[1:] + order[:1]  # nobody profits from the same neighbour every time
    medians = {name: statistics.median(values[1:] or values) for name, values in times.items()}
    return {name: float(f"{median:.4g}") for name, median in medians.items()}, failed


def choice(leaves: list[Tensor], fusion: str, gradients: bool) -> str:
    """The backend that auto takes."""
    if not gradients:
        leaves = [leaf.detach() for leaf in leaves]
    return explain(*leaves[:3], Mask(*leaves[3:]), fusion=fusion).backend


def resident(field: str) -> int:
    """VmRSS or VmHWM (the peak) of this process, in bytes. Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def peak_of_step(sizes: dict, fusion: str, rival: str, pipe) -> None:
    """Runs in a child process: sends the bytes by which one forward and backward pass raises the peak."""
    torch.set_num_threads(1)
    step(build(rival, fusion), make(**sizes | {"length": 8}), gradients=True)  # what PyTorch loads at its first call
    leaves = make(**sizes)
    ctypes.CDLL(None).malloc_trim(0)  # memory that was freed but kept would hide what the step takes
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = resident("VmRSS")
    step(build(rival, fusion), leaves, gradients=True)
    pipe.send(resident("VmHWM") - before)


def peak_bytes(sizes: dict, fusion: str, rival: str) -> int:
    """The bytes by which one forward and backward pass raises the peak; gradients are counted, inputs are not."""
    if sizes["device"] != "cpu":
        leaves = make(**sizes)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(build(rival, fusion), leaves, gradients=True)
        return torch.cuda.max_memory_allocated() - before
    clean = multiprocessing.get_context("forkserver")  # a fork of this process could not compute gradients
    clean.set_forkserver_preload(["torch", "lcaam"])
    here, there = clean.Pipe()
    child = clean.Process(target=peak_of_step, args=(sizes, fusion, rival, there))
    child.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        raise RuntimeError(f"measuring the memory of {rival} at {sizes} failed (out of memory?)") from None
    finally:
        child.join()


def cells(arguments: argparse.Namespace) -> Iterator[tuple[int, int, str, bool]]:
    """Length, batch, fusion and whether gradients are computed; cheap ones first."""
    places = [(length, batch) for length in arguments.lengths for batch in arguments.batches]
    for length, batch in sorted(places, key=lambda place: place[0] ** 2 * place[1]):
        for fusion in arguments.fusions:
            for gradients in (True, False):
                yield length, batch, fusion, gradients


def start(arguments: argparse.Namespace) -> dict:
    """A result without rows, or the one of --out to go on with. ValueError if that one had other settings.

    Its `commands` are those that measured rows, so that no row stands beside a command that does not give it.
    """
    result = about(arguments.device) | {key: getattr(arguments, key) for key in SETTINGS[3:]}
    result |= {"commands": [], "rows": []}
    if arguments.out and arguments.out.is_file():
        before = json.loads(arguments.out.read_text(encoding="utf-8"))
        for key in SETTINGS:
            if before.get(key) != result[key]:
                raise ValueError(
                    f"{arguments.out} has rows with {key} {before.get(key)!r}, this run has {result[key]!r}: give "
                    "another --out, or delete the file"
                )
        result["commands"], result["rows"] = before["commands"], before["rows"]
    return result


def benchmark(arguments: argparse.Namespace) -> dict:
    result = start(arguments)
    command = result.pop("command")
    there = {tuple(row[key] for key in KEYS) for row in result["rows"]}
    began = time.monotonic()
    for cell in cells(arguments):
        if arguments.minutes and time.monotonic() - began > 60 * arguments.minutes:
            print(f"{arguments.minutes} minutes are over; the same command goes on", flush=True)
            break
        length, batch, fusion, gradients = cell
        wanted = [name for name in RIVALS if name in {"plain", *arguments.rivals}]
        if all((*cell, name) in there for name in wanted):
            continue
        if command not in result["commands"]:
            result["commands"].append(command)
        refused = {name: refusal(name, *cell, arguments.heads, arguments.device) for name in wanted}
        names = [name for name in wanted if refused[name] is None and (name == "plain" or (*cell, name) not in there)]
        sizes = {"batch": batch, "length": length, **{key: result[key] for key in SETTINGS[3:]}}
        times, failed, leaves = {}, {}, []
        if names:
            leaves = make(**sizes)
            if any(name in COMPILED for name in names):
                torch._dynamo.reset()  # compiled code serves one cell, and is not counted towards a limit
            rivals = {name: build(name, fusion) for name in names}
            times, failed = seconds(rivals, leaves, gradients, arguments.repeats)
        for name in wanted:
            if (*cell, name) in there:
                continue
            row = dict(zip(KEYS, (*cell, name), strict=True)) | {"seconds": times.get(name)}
            if name == "auto" and leaves:
                row["choice"] = choice(leaves, fusion, gradients)
            if row["seconds"] is None:
                row["skipped"] = refused[name] or failed[name]
            else:
                row["plain"] = times["plain"]
                if measures_memory(name, batch, gradients) and not arguments.no_memory:
                    row["peak_bytes"] = peak_bytes(sizes, fusion, name)
            result["rows"].append(row)
            print(describe(row), flush=True)
        if arguments.out:  # so that a run that is stopped can go on
            write_result(arguments.out, result)
        if arguments.costs:
            keep_costs(result["rows"])
    return result


def keep_costs(rows: list[dict]) -> None:
    """Puts the seconds of lcaam's backends on this GPU into lcaam/gpu_costs.json."""
    found: dict[tuple, dict[str, float]] = {}
    for row in rows:
        if row["rival"] in BACKENDS and row["rival"] != "auto" and row["seconds"] is not None:
            found.setdefault(tuple(row[key] for key in KEYS[:-1]), {})[row["rival"]] = row["seconds"]
    kept = [
        {
            "length": length,
            "pairs": batch * HEADS * length**2,
            "fusion": fusion,
            "gradients": gradients,
            "seconds": times,
        }
        for (length, batch, fusion, gradients), times in found.items()
    ]
    write_result(gpu_costs.FILE, gpu_costs.gpu_costs() | {gpu_costs.architecture(torch.device("cuda")): kept})


def measures_memory(rival: str, batch: int, gradients: bool) -> bool:
    """Memory is measured once per length and fusion; compiled code is not compiled again in a process of its own."""
    return gradients and batch == 1 and rival not in (*COMPILED, "auto")


def describe(row: dict) -> str:
    text = f"N {row['length']:>5}  B {row['batch']}  {row['fusion']:<6} "
    text += f"{'with' if row['gradients'] else 'no  '} gradients  {row['rival']:<14} "
    if row["seconds"] is None:
        return text + f"skipped: {row['skipped']}"
    text += f"{1000 * row['seconds']:>9.1f} ms  {row['seconds'] / row['plain']:>5.2f} x plain"
    if "choice" in row:
        text += f"  ({row['choice']})"
    return text + (f"  {row['peak_bytes'] / 2**20:>8.1f} MiB" if "peak_bytes" in row else "")


def plot(result: dict, path: Path) -> None:
    attention_page.plot(result, path)


def page(result: dict, figure: str) -> str:
    return attention_page.block(result, figure)


def options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    command.add_argument("--dtype", choices=list(BITS), help="default: float32 on a CPU, bfloat16 on a GPU")
    command.add_argument("--lengths", type=at_least_one, nargs="+", help="numbers of tokens")
    command.add_argument("--batches", type=at_least_one, nargs="+")
    command.add_argument("--fusions", nargs="+", default=list(FUSIONS), choices=FUSIONS)
    command.add_argument("--rivals", nargs="+", choices=list(RIVALS), help="beside plain")
    command.add_argument("--heads", type=at_least_one, default=HEADS)
    command.add_argument("--width", type=at_least_one, default=64, help="width of a head")
    command.add_argument("--rank", type=at_least_one, default=64, help="rank of the mask")
    command.add_argument("--repeats", type=at_least_one, default=25, help="at most")
    command.add_argument("--no-memory", action="store_true", help="times only")
    command.add_argument("--minutes", type=float, help="start no cell after so many")
    command.add_argument("--costs", action="store_true", help="keep the seconds of this GPU for auto")


def check(arguments: argparse.Namespace) -> None:
    """Raises ValueError for what cannot be measured here; fills in what the device decides."""
    on_gpu = arguments.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no CUDA device")
    if arguments.costs and not (on_gpu and arguments.heads == HEADS):
        raise ValueError(f"--costs is about a GPU: it needs --device cuda, and {HEADS} heads")
    arguments.dtype = arguments.dtype or ("bfloat16" if on_gpu else "float32")
    arguments.lengths = arguments.lengths or list(GPU_LENGTHS if on_gpu else LENGTHS)
    arguments.batches = arguments.batches or list(GPU_BATCHES if on_gpu else BATCHES)
    arguments.rivals = arguments.rivals or list(GPU_RIVALS if on_gpu else CPU_RIVALS)
    if arguments.device == "cpu" and not arguments.no_memory and not Path("/proc/self/clear_refs").exists():
        raise ValueError("peak memory on a CPU is read from Linux' /proc; use --no-memory")
    torch.set_num_threads(arguments.threads)
    start(arguments)
