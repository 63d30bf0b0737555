"""SwinBERT's BERT part at full size: how much cached decoding saves, and what memory a mask costs in training.

    python -m scripts.benchmark captioning --out docs/results/benchmark_captioning_cpu.json

Decoding: the time to write one caption for each of --decode-batch videos with random weights, by re-encoding all
N = 784 + 2 to 784 + 20 tokens at every step (as the original does by default), divided by the time to write them from
kept video states; captions that differ stop the benchmark. The two take turns, the median counts.
Memory: by how much a training step (loss, backward; gradients counted, the optimiser not) raises the peak, with a mask
divided by without, each measured in a process of its own (CPU) or by CUDA's allocator.
"""

import argparse
import ctypes
import multiprocessing
import statistics
import time
from pathlib import Path

import torch

from lcaam import Fusion
from scripts.benchmarks.attention import resident
from scripts.benchmarks.common import about, at_least_one
from tasks.video_captioning.beam_search import Special
from tasks.video_captioning.masking import hide
from tasks.video_captioning.model import SwinBert

SCOPES = {"none": "none", "lcaam": "shared", "multi_lcaam": "per_layer"}
SMALL = dict(vocab_size=60, feature_dim=16, video_tokens=18, text_tokens=22, video_dim=8, width=16, layers=2, heads=2)
SMALL |= dict(feedforward=32, positions=32)


def model_of(arguments: argparse.Namespace, name: str) -> SwinBert:
    mask = {"scope": SCOPES[name], "fusion": "none" if name == "none" else arguments.fusion, "depth": arguments.depth}
    mask |= {"hidden": arguments.hidden, "rank": None, "groups": 1, "residual": False, "init": "identity"}
    torch.manual_seed(0)
    sizes = SMALL if arguments.small else {}
    return SwinBert(**sizes, mask=mask, backend=arguments.backend).to(arguments.device)


def special_of(model: SwinBert) -> Special:
    return Special() if model.vocab_size > 103 else Special(0, 1, 2, 3)


def features_of(model: SwinBert, batch: int, device: str) -> torch.Tensor:
    width = model.project.in_features
    return torch.randn(batch, model.video_tokens, width, generator=torch.Generator().manual_seed(1)).to(device)


# -- decoding ---------------------------------------------------------------------------------------------------------


def decoding(arguments: argparse.Namespace, name: str) -> dict:
    """Median seconds with and without the cache. Raises RuntimeError if the captions differ."""
    model = model_of(arguments, name).eval()
    features = features_of(model, arguments.decode_batch, arguments.device)
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(arguments.repeats):
        captions = {}
        for cache in times:
            start = time.perf_counter()
            captions[cache] = model.generate(features, special_of(model), num_beams=arguments.beams, cache=cache).ids
            if features.is_cuda:
                torch.cuda.synchronize()
            times[cache].append(time.perf_counter() - start)
        if not torch.equal(captions[True], captions[False]):
            raise RuntimeError(f"{name}: captions with and without the cache differ")
    cached, whole = (statistics.median(times[cache]) for cache in (True, False))
    row = {"measures": "decoding", "mask": name, "batch": arguments.decode_batch, "beams": arguments.beams}
    row |= {"tokens": captions[True].shape[1], "seconds": cached, "seconds_without_cache": whole}
    return row | {"faster_than_without_cache": whole / cached}


# -- memory -----------------------------------------------------------------------------------------------------------


def training_step(model: SwinBert, batch: int, device: str) -> None:
    special, text = special_of(model), model.text_tokens
    ids = torch.randint(special.mask + 1, model.vocab_size, (batch, text), generator=torch.Generator().manual_seed(2))
    lengths = torch.full((batch,), text)
    inputs, labels = (t.to(device) for t in hide(ids, lengths, special.mask, model.vocab_size))
    keep = torch.ones_like(inputs, dtype=torch.bool)
    model.loss(features_of(model, batch, device), inputs, labels, keep).backward()


def peak_in_child(arguments: argparse.Namespace, name: str, pipe) -> None:
    """Runs in a child process: sends the bytes by which one training step raises the peak."""
    torch.set_num_threads(1)
    model = model_of(arguments, name).train()
    ctypes.CDLL(None).malloc_trim(0)  # memory that was freed but kept would hide what the step takes
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    before = resident("VmRSS")
    training_step(model, arguments.batch, arguments.device)
    pipe.send(resident("VmHWM") - before)


def peak_bytes(arguments: argparse.Namespace, name: str) -> int:
    """The bytes by which one training step raises the peak; weights are not counted."""
    if arguments.device != "cpu":
        model = model_of(arguments, name).train()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        training_step(model, arguments.batch, arguments.device)
        return torch.cuda.max_memory_allocated() - before
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=peak_in_child, args=(arguments, name, there))
    child.start()
    there.close()
    try:
        return here.recv()
    except EOFError:
        raise RuntimeError(f"measuring the memory of {name} failed (out of memory?)") from None
    finally:
        child.join()


def memory(arguments: argparse.Namespace) -> list[dict]:
    peaks = {name: peak_bytes(arguments, name) for name in dict.fromkeys(["none", *arguments.masks])}
    of_mask = {"fusion": arguments.fusion, "depth": arguments.depth, "hidden": arguments.hidden}
    return [
        {"measures": "memory", "mask": name, "batch": arguments.batch, "backend": arguments.backend, "peak_bytes": peak}
        | ({} if name == "none" else of_mask)
        | {"of_the_step_without_mask": peak / peaks["none"]}
        for name, peak in peaks.items()
    ]


# -- the command ------------------------------------------------------------------------------------------------------


def benchmark(arguments: argparse.Namespace) -> dict:
    rows = [] if arguments.no_memory else memory(arguments)  # children before this process grows
    for row in rows:
        print(
            f"training step, batch {row['batch']}, backend {row['backend']}: {row['mask']:<12}"
            f"{row['peak_bytes'] / 2**20:>9.1f} MiB  {row['of_the_step_without_mask']:.3f} of its memory without mask",
            flush=True,
        )
    for name in [] if arguments.no_decoding else arguments.masks:
        row = decoding(arguments, name)
        rows.append(row)
        print(
            f"decoding, batch {row['batch']}, beams {row['beams']}: {name:<12}{row['seconds']:>8.2f} s cached, "
            f"{row['seconds_without_cache']:.2f} s without: {row['faster_than_without_cache']:.1f} x as fast",
            flush=True,
        )
    return about(arguments.device) | {"rows": rows}


def options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="cpu", help="cpu or cuda")
    command.add_argument("--masks", nargs="+", default=["none", "lcaam", "multi_lcaam"], choices=SCOPES)
    command.add_argument("--fusion", default="mul", choices=[f.value for f in Fusion])
    command.add_argument("--depth", type=at_least_one, default=3, help="linear layers of a mask")
    command.add_argument("--hidden", type=at_least_one, help="width between them; default: BERT's")
    command.add_argument("--backend", default="auto")
    command.add_argument("--batch", type=at_least_one, default=2, help="batch size of the training step")
    command.add_argument("--decode-batch", type=at_least_one, default=1)
    command.add_argument("--beams", type=at_least_one, default=1)
    command.add_argument("--repeats", type=at_least_one, default=1, help="repeats of decoding")
    command.add_argument("--no-memory", action="store_true", help="decoding only")
    command.add_argument("--no-decoding", action="store_true", help="memory only")
    command.add_argument("--small", action="store_true", help="a tiny model, to try the command")


def check(arguments: argparse.Namespace) -> None:
    """Raises ValueError for what cannot be measured here."""
    if arguments.device == "cpu" and not arguments.no_memory and not Path("/proc/self/clear_refs").exists():
        raise ValueError("peak memory on a CPU is read from Linux' /proc; use --no-memory")
    if arguments.no_memory and arguments.no_decoding:
        raise ValueError("--no-memory and --no-decoding leave nothing to measure")
