"""Kills runs of all tasks at random points, resumes them with `resume=auto`, and compares with the unbroken run.

Equal means: weights, optimiser, schedule and step of the last checkpoint torch.equal, predictions equal to the byte,
and all metrics equal. Every second killed run saves after each step, the others after validations; every third is
killed twice; every fourth gets SIGTERM, must save and end with 143, and the others SIGKILL.
"""

import argparse
import contextlib
import copy
import gc
import json
import logging
import random
import shutil
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from scripts.torture.children import ended, started
from scripts.torture.points import KINDS, Points

COMMON = (
    "scale=smoke", "logger=csv", "floors.enabled=false", "callbacks.figures=null", "trainer.max_steps=9",
    "trainer.val_check_interval=3", "trainer.check_val_every_n_epoch=null", "test_checkpoint=best",
)  # fmt: skip
ACCUMULATION = ("trainer.accumulate_grad_batches=3", "trainer.max_steps=5", "trainer.val_check_interval=4")
RANKS = ("trainer.devices=2", "trainer.strategy=ddp")
RECIPE = ["task.drop_path=0", "task.mixup=0", "task.cutmix=0", "task.ema=null"]
TASKS: dict[str, dict[str, tuple[str, ...]]] = {
    "audio_description": {
        "": ("experiment=madv2_multi_lcaam", "data.batch_size=5"),
        "dropout": ("task.dropout=0.2",),
        "other": ("data.previous=ground_truth",),
    },
    "moment_retrieval": {
        "": ("experiment=qvhighlights_multi_lcaam", "data.batch_size=7"),
        "dropout": ("task.dropout=0.2", "task.input_dropout=0.5"),
        "other": ("mask=static_logsigmoid",),
    },
    "image_classification": {
        "": ("experiment=imagenet1k_multi_lcaam", "data.batch_size=11", *RECIPE),
        "dropout": ("task.drop_path=0.3",),
        "other": (
            "task.ema=0.9",
            "task.mixup=0.8",
            "task.cutmix=1.0",
            "task.drop_path=0.1",
            "data.augment=timm",
            "data.shift=0",
        ),
    },
    "video_captioning": {
        "": ("experiment=msrvtt_multi_lcaam", "data.batch_size=5"),
        "dropout": ("task.dropout=0.2",),
        "other": ("mask=static_swinbert",),
    },
    "language_model": {
        "": ("experiment=shakespeare_multi_lcaam", "data.batch_size=7"),
        "dropout": ("task.dropout=0.2",),
        "other": ("mask=table", "task.positions=rotary"),
    },
}
OTHER = {
    "audio_description": "descriptions before",
    "moment_retrieval": "static mask",
    "image_classification": "EMA, mixup, cutmix, timm's augmentation",
    "video_captioning": "static mask",
    "language_model": "static table, rotary positions",
}
VARIANTS: dict[str, tuple[str, ...]] = {
    "plain": (), "workers 2": ("data.num_workers=2",), "ranks 2": RANKS, "accumulation 3": ACCUMULATION,
    "dropout": (), "other": (),
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=10, help="killed runs for each task and variant")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=TASKS)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seed", type=int, default=0, help="of the kill points")
    parser.add_argument("--out", type=Path, help="a page (.md) for the table; a .json of the same name is written too")
    parser.add_argument("--keep", type=Path, help="a folder for the runs, which is kept")


def main(chosen: argparse.Namespace) -> int:
    """Prints a line for each task and variant, and writes the table. Returns 1 if any run differs."""
    imported()
    from scripts.torture.page import write

    folder = chosen.keep or Path(tempfile.mkdtemp(prefix="torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    try:
        for task in chosen.tasks:
            warm(folder.absolute(), task)
            for variant in chosen.variants:
                row = cell(folder.absolute(), task, variant, chosen.kills, chosen.seed)
                rows.append(row)
                print(f"{task}, {variant}: {row['equal']} of {row['runs']} equal ({row['seconds']} s)", flush=True)
                for problem in row["problems"]:
                    print(f"    {problem}", flush=True)
                if chosen.out is not None:
                    write(chosen.out, rows, chosen)
    finally:
        if chosen.keep is None:
            shutil.rmtree(folder)
    return int(any(row["problems"] for row in rows))


def imported() -> None:
    """Imports what every run needs, so that the forked processes have it."""
    import torch

    import train  # noqa: F401

    torch.set_num_threads(1)


def warm(folder: Path, task: str) -> None:
    """Two steps in this process: it generates the data, and the forked ones find all imported that they need."""
    from configs.composing import composed
    from train import train

    own = ["trainer.max_steps=2", "trainer.val_check_interval=1", f"paths.log_dir={folder}/warm"]
    with (folder / "warm.txt").open("w") as file, contextlib.redirect_stdout(file):
        train(composed(*overrides(task, "plain"), *own, f"paths.data_dir={folder}/data"))
    gc.collect()
    gc.freeze()


def overrides(task: str, variant: str) -> list[str]:
    """The command line of a task's run, without its folders."""
    return [*COMMON, *TASKS[task][""], *VARIANTS[variant], *TASKS[task].get(variant, ())]


def cell(folder: Path, task: str, variant: str, kills: int, seed: int) -> dict[str, Any]:
    """What became of the killed runs of one task in one variant."""
    from configs.composing import composed

    start, place = time.monotonic(), folder / task / variant.replace(" ", "")
    command = composed(*overrides(task, variant), f"paths.data_dir={folder}/data")
    run(place / "whole", command, {}, None)
    points = json.loads((place / "whole" / "points.json").read_text())
    chance = random.Random(f"{seed} {task} {variant}")
    equal, problems, killed = 0, [], Counter()
    for number in range(kills):
        here = place / f"killed{number}"
        saving = 1e-6 if number % 2 else None
        own = {"callbacks.last.save_minutes": saving, "resume": "auto"}
        found, term = [], number % 4 == 3
        for _ in range(2 if number % 3 == 2 else 1):
            kind = chance.choice([kind for kind in KINDS if points.get(kind)])
            point = (kind, chance.randint(1, points[kind]), signal.SIGTERM if term else signal.SIGKILL)
            found.append(" ".join(map(str, point[:2])))
            killed[kind] += 1
            codes = run(here, command, own, point)
            if term and codes[0] not in (0, 143):  # 0: the resumed run has fewer points and was not hit
                problems.append(f"SIGTERM at {found[-1]} ended with {codes}")
        run(here, command, own, None)
        if differing := list(differences(place / "whole", here)):
            problems.append(f"killed at {', then '.join(found)}, save_minutes={saving}: {'; '.join(differing)}")
        else:
            equal += 1
            shutil.rmtree(here)
    return {
        "task": task, "variant": OTHER[task] if variant == "other" else variant, "column": variant, "runs": kills,
        "equal": equal, "killed": dict(killed), "seconds": round(time.monotonic() - start), "problems": problems,
    }  # fmt: skip


def run(folder: Path, command: DictConfig, changes: dict[str, Any], point: tuple | None) -> list[int]:
    """One run below `folder`, on one or two ranks; it is killed at `point`. Returns their exit codes.

    Raises RuntimeError if it fails by itself.
    """
    log, count = folder / "output.txt", command.trainer.devices
    cfg = copy.deepcopy(command)
    for key, value in {**changes, "paths.log_dir": f"{folder}/logs"}.items():
        OmegaConf.update(cfg, key, value)
    ranks: list[dict[str, str]] = [{}]
    if count > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count), "NODE_RANK": "0"}
        ranks = [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    job = partial(trained, cfg, folder, point)
    codes = ended([started(log, job, OMP_NUM_THREADS="1", **rank) for rank in ranks], seconds=300)
    if point is None and any(codes):
        raise RuntimeError(f"a run failed ({codes}):\n{log.read_text(errors='replace')[-3000:]}")
    return codes


def trained(cfg: DictConfig, folder: Path, point: tuple | None) -> None:
    """In its own process: train.py, with the points; the first rank is the one that is killed."""
    import os

    import tasks.common.build as build
    from train import train

    logging.basicConfig(level=logging.INFO)
    first = os.environ.get("RANK", "0") == "0"
    counter = Points(*point) if point and first else Points()
    original = build.build_trainer

    def with_points(*given: Any, **more: Any) -> Any:
        trainer = original(*given, **more)
        trainer.callbacks.insert(0, counter)
        return trainer

    build.build_trainer = with_points
    train(cfg)
    if first:
        (folder / "points.json").write_text(json.dumps(counter.counts))


def differences(whole: Path, resumed: Path) -> Iterator[str]:
    """In what the completed run below `resumed` is not the run below `whole`."""
    import torch

    one, other = completed(whole), completed(resumed)
    first, second = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, other))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        if not same(first[part], second[part]):
            yield part
    paths = [run / "predictions" / "test.jsonl" for run in (one, other)]
    if paths[0].read_bytes() != paths[1].read_bytes():
        yield "predictions"
    metrics = [json.loads((run / "results.json").read_text())["metrics"] for run in (one, other)]
    for name in dict.fromkeys((*metrics[0], *metrics[1])):
        values = [found.get(name) for found in metrics]
        if values[0] != values[1]:
            yield f"{name} {values[0]} and {values[1]}"
    if left := [path.name for path in resumed.rglob(".*.ckpt.*")]:
        yield f"left over: {', '.join(left)}"


def completed(folder: Path) -> Path:
    """The folder of the completed run below a folder."""
    found = [path for path in folder.rglob("results.json") if json.loads(path.read_text())["status"] == "completed"]
    return found[-1].parent


def same(one: Any, other: Any) -> bool:
    """Whether two trees of tensors and plain values are equal, bit for bit."""
    import torch

    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
