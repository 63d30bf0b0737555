"""One training step of QD-DETR, beside a plain re-statement of the original's schedule; prints ratios, writes JSON.

    python -m scripts.benchmark qd_detr --out docs/results/benchmark_qd_detr_cpu.json
    python -m scripts.benchmark qd_detr --models plain none --repeats 5 --clock cpu     (the machine is busy)

The step: forward with losses and matching; backward; clipping and AdamW; dropout on. The models take turns on the same
batches, each with its own weights; medians count. `plain` is scripts/benchmarks/qd_detr_plain.py; none, lcaam and
multi_lcaam are the models of experiment=qvhighlights_{baseline,lcaam,multi_lcaam}; +bf16 is bf16-mixed precision.

Loading: batches by the data module from generated files in the official formats, one file per video and query (npz) and
packed (scripts/pack_features.py), from the page cache, in this process.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from rich.console import Console

from configs import composing
from scripts.benchmarks.common import about, at_least_one
from scripts.benchmarks.qd_detr_plain import PlainQDDETR, plain_loss
from scripts.pack_features import pack_folder
from tasks.common.build import build, build_module
from tasks.common.optimisation import adamw

PLAIN = "plain"
EXPERIMENTS = {"none": "baseline", "lcaam": "lcaam", "multi_lcaam": "multi_lcaam"}
BF16 = "+bf16"
MODELS = (PLAIN, *EXPERIMENTS, *(name + BF16 for name in EXPERIMENTS))
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
PARTS = ("forward", "backward", "optimiser")
HEAD = 32  # features per head, at any width
CLIP_GRADIENT = 0.1
Step = Callable[[dict[str, Any]], list[float]]


def options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, help="ratios are to plain")
    command.add_argument("--device", default="cpu", help="cpu or cuda")
    command.add_argument("--clock", default="wall", choices=CLOCKS, help="cpu: of this process, for a busy machine")
    command.add_argument("--repeats", type=at_least_one, default=9)
    command.add_argument("--batches", type=at_least_one, default=4, help="different batches that are loaded and used")
    sizes = {"batch": 32, "clips": 75, "tokens": 32, "slowfast": 2304, "clip": 512, "text": 512}
    sizes |= {"width": 256, "feedforward": 1024, "queries": 10, "depth": 32}
    notes = {"slowfast": "features", "clip": "features", "text": "features", "depth": "linear layers of a mask"}
    for name, size in sizes.items():
        command.add_argument(f"--{name}", type=at_least_one, default=size, help=notes.get(name))


def check(arguments: argparse.Namespace) -> None:
    """Raises ValueError for what cannot be measured."""
    if arguments.batch < 2:
        raise ValueError(f"--batch {arguments.batch}: a wrong text comes from another sample, so at least 2 are needed")
    if arguments.clips < 2:
        raise ValueError(f"--clips {arguments.clips}: saliency compares clips, so at least 2 are needed")
    if arguments.width % HEAD:
        raise ValueError(f"--width {arguments.width}: heads have {HEAD} features; give a multiple of {HEAD}")
    if arguments.device == "cuda" and arguments.clock == "cpu":
        raise ValueError("--clock cpu does not see what a GPU does; use --clock wall")


# -- data -------------------------------------------------------------------------------------------------------------


def write_data(folder: Path, arguments: argparse.Namespace) -> None:
    """Annotations and features in the official formats; each sample has a query and a full-length video of its own."""
    rng = np.random.default_rng(0)
    for stream in ("slowfast_features", "clip_features", "clip_text_features"):
        (folder / stream).mkdir()
    last = arguments.batch * arguments.batches
    for split, qids in {"train": range(last), "val": [last], "test": [last + 1]}.items():
        rows = [write_sample(folder, qid, arguments, rng) for qid in qids]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_sample(folder: Path, qid: int, arguments: argparse.Namespace, rng: np.random.Generator) -> dict[str, Any]:
    """The features of one query and its video; returns its annotation. A quarter of the texts have all tokens."""
    a, vid = arguments, f"v{qid}_0.0_{2.0 * arguments.clips}"
    for stream, width in (("slowfast_features", a.slowfast), ("clip_features", a.clip)):
        np.savez(folder / stream / f"{vid}.npz", features=rng.standard_normal((a.clips, width), np.float32))
    length = a.tokens if qid % 4 == 0 else int(rng.integers(1, a.tokens + 1))
    tokens = rng.standard_normal((length, a.text), np.float32)
    pooled = rng.standard_normal(a.text, np.float32)
    np.savez(folder / "clip_text_features" / f"qid{qid}.npz", last_hidden_state=tokens, pooler_output=pooled)
    first, end = sorted(rng.choice(a.clips + 1, 2, replace=False).tolist())
    row = {"qid": qid, "query": "a query", "vid": vid, "duration": 2 * a.clips}
    row |= {"relevant_windows": [[2 * first, 2 * end]], "relevant_clip_ids": list(range(first, end))}
    return row | {"saliency_scores": rng.integers(0, 5, (end - first, 3)).tolist()}


def composed(experiment: str, folder: Path, arguments: argparse.Namespace) -> DictConfig:
    """The experiment's configuration at the benchmark's sizes, on the data in `folder`."""
    a = arguments
    changes = {
        "data.root": folder,
        **{f"data.{split}_annotations": f"{split}.jsonl" for split in ("train", "val", "test")},
        "data.video_streams.slowfast_features.dim": a.slowfast,
        "data.video_streams.clip_features.dim": a.clip,
        "data.text_stream.dim": a.text,
        "data.max_clips": a.clips,
        "data.max_tokens": a.tokens,
        "data.batch_size": a.batch,
        "data.num_workers": 0,
        "data.in_memory": False,
        "task.width": a.width,
        "task.heads": a.width // HEAD,
        "task.feedforward": a.feedforward,
        "task.queries": a.queries,
        "mask.depth": a.depth,
    }
    overrides = [f"experiment=qvhighlights_{experiment}", *(f"{key}={value}" for key, value in changes.items())]
    return composing.composed(*overrides)


def loaded(datamodule, clock: Callable[[], float]) -> tuple[list[dict[str, Any]], float]:
    """All batches of an epoch, and the median seconds per batch; an epoch before it fills the page cache."""
    list(datamodule.train_dataloader())
    batches, times = iter(datamodule.train_dataloader()), []
    found = []
    while True:
        start = clock()
        batch = next(batches, None)
        if batch is None:
            return found, statistics.median(times)
        times.append(clock() - start)
        found.append(batch)


def load(folder: Path, arguments: argparse.Namespace) -> tuple[Any, list[dict[str, Any]], list[dict[str, Any]]]:
    """The data module, its batches and the rows about loading: from single files, then packed."""
    rows = []
    for files in ("npz", "packed"):
        if files == "packed":
            quiet = Console(file=io.StringIO())
            for stream, key in (("slowfast", "features"), ("clip", "features"), ("clip_text", "last_hidden_state")):
                pack_folder(folder / f"{stream}_features", key, "same", force=False, console=quiet)
        datamodule = build(composed("baseline", folder, arguments).data)
        datamodule.prepare_data()
        datamodule.setup()
        batches, seconds = loaded(datamodule, CLOCKS[arguments.clock])
        rows.append({"files": files, "seconds": seconds})
    return datamodule, batches, rows


# -- steps ------------------------------------------------------------------------------------------------------------


def step_of(model: torch.nn.Module, optimiser: torch.optim.Optimizer, loss_of: Callable, bf16: bool, arguments) -> Step:
    """A training step that returns the seconds of its PARTS."""
    device, clock = arguments.device, CLOCKS[arguments.clock]

    def now() -> float:
        if device != "cpu":
            torch.cuda.synchronize()
        return clock()

    def step(batch: dict[str, Any]) -> list[float]:
        times = [now()]
        with torch.autocast(device, torch.bfloat16) if bf16 else nullcontext():
            loss = loss_of(batch)
        times.append(now())
        optimiser.zero_grad()
        loss.backward()
        times.append(now())
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_GRADIENT)
        optimiser.step()
        times.append(now())
        return [end - start for start, end in pairwise(times)]

    return step


def make(name: str, datamodule, folder: Path, arguments: argparse.Namespace) -> Step:
    a, facts = arguments, datamodule.facts()
    torch.manual_seed(0)
    if name == PLAIN:
        model = PlainQDDETR(facts["video_dim"], facts["text_dim"], a.width, a.feedforward, a.queries).to(a.device)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=1e-4)

        def loss_of(batch: dict[str, Any]) -> torch.Tensor:
            inputs = (batch[key] for key in ("video", "video_keep", "text", "text_keep"))
            return plain_loss(model(*inputs), batch)

        return step_of(model, optimiser, loss_of, False, a)
    cfg = composed(EXPERIMENTS[name.removesuffix(BF16)], folder, a)
    module = build_module(cfg, datamodule).to(a.device).train()
    h = module.hparams
    configured = adamw(module, h.lr, h.weight_decay, h.betas, h.warmup, 1, h.schedule, h.decay, fused=True)
    return step_of(module, configured["optimizer"], lambda batch: module.batch_losses(batch)[0], name.endswith(BF16), a)


def on(device: str, batch: dict[str, Any]) -> dict[str, Any]:
    def moved(value):
        if isinstance(value, list):
            return [moved(part) for part in value]
        return value.to(device) if torch.is_tensor(value) else value

    return {key: moved(value) for key, value in batch.items()}


def benchmark(arguments: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_data(folder, arguments)
        datamodule, batches, loading = load(folder, arguments)
        steps = {name: make(name, datamodule, folder, arguments) for name in dict.fromkeys(arguments.models)}
    batches = [on(arguments.device, batch) for batch in batches]
    times: dict[str, list[list[float]]] = {name: [] for name in steps}
    for turn in range(arguments.repeats + 1):
        for name, step in steps.items():
            seconds = step(batches[turn % len(batches)])
            if turn > 0:  # the first warms up
                times[name].append(seconds)
    rows = [{"model": name, **summary(of_model)} for name, of_model in times.items()]
    plain = next((row["step"] for row in rows if row["model"] == PLAIN), None)
    for row in rows:
        row["of_plain"] = None if plain is None else row["step"] / plain
        print(describe(row), flush=True)
    for row in loading:
        row["of_npz"] = row["seconds"] / loading[0]["seconds"]
        print(f"loading {row['files']:<8}{1000 * row['seconds']:>8.1f} ms per batch  {row['of_npz']:>5.2f} of npz")
    kept = {key: value for key, value in vars(arguments).items() if key not in ("out", "models", "name", "threads")}
    return about(arguments.device) | {"settings": kept, "rows": rows, "loading": loading}


def summary(times: list[list[float]]) -> dict[str, float]:
    """Medians of the parts and of the whole step."""
    medians = {part: statistics.median(column) for part, column in zip(PARTS, zip(*times, strict=True), strict=True)}
    return medians | {"step": statistics.median(map(sum, times))}


def describe(row: dict[str, Any]) -> str:
    text = f"{row['model']:<17}step {1000 * row['step']:>8.1f} ms = "
    text += " + ".join(f"{part} {1000 * row[part]:.1f}" for part in PARTS)
    return text + (f"  {row['of_plain']:.3f} of plain" if row["of_plain"] else "")
