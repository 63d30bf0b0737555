"""Runs each task on several ranks and on one process, and compares what comes out.

Tested: the same weights on 1, 2 and 3 ranks, which do not divide the data. Trained: 8 steps on 2 ranks against one
process with the same global batch, without dropout; in float64, in which a difference is one of the method, and in
float32, in which Adam enlarges what sums in another order differ in. A row of the table may change settings, such as
the losses that are of each rank by their nature.
"""

import argparse
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from scripts.torture.children import ended, started

BATCH = 8  # samples of all ranks in a step
COMMON = (
    "scale=smoke", "logger=csv", "callbacks=none", "floors.enabled=false", "trainer.max_steps=8",
    "trainer.val_check_interval=4", "data.eval_batch_size=5", "trainer.enable_progress_bar=false",
)  # fmt: skip
DOUBLE = ("trainer.precision=64-true",)
DDP = ("trainer.strategy=ddp",)
FSDP = ("trainer=fsdp", "trainer.accelerator=cpu", "trainer.precision=32-true")
TASKS: dict[str, tuple[str, ...]] = {
    "audio_description": ("experiment=madv2_multi_lcaam", "task.dropout=0"),
    "moment_retrieval": ("experiment=qvhighlights_multi_lcaam", "task.dropout=0", "task.input_dropout=0"),
    "image_classification": (
        "experiment=imagenet1k_multi_lcaam", "task.drop_path=0", "task.mixup=0", "task.cutmix=0",
    ),
    "video_captioning": ("experiment=msrvtt_multi_lcaam", "task.dropout=0"),
    "language_model": ("experiment=shakespeare_multi_lcaam",),
}  # fmt: skip
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {  # what a row of the table is: its task and what it changes
    "audio description": ("audio_description", ()),
    "audio description, accumulation": ("audio_description", ("trainer.accumulate_grad_batches=2",)),
    "audio description, sharded (FSDP2)": ("audio_description", FSDP),
    "moments": ("moment_retrieval", ()),
    "moments, no saliency loss": ("moment_retrieval", ("task.losses.saliency=0",)),
    "images": ("image_classification", ()),
    "images, mixup and cutmix": ("image_classification", ("task.mixup=0.8", "task.cutmix=1.0")),
    "captions": ("video_captioning", ()),
    "captions, accumulation": ("video_captioning", ("trainer.accumulate_grad_batches=2",)),
    "characters": ("language_model", ()),
}
PER_RANK = ("moments", "images, mixup and cutmix")  # what is of each rank by its nature, so that training differs
METHOD = 1e-7  # differences of weights in float64 below this come from the places that stay in float32
ROUNDING = 1e-4  # the same in float32, after Adam, whose steps have the size of the rate for almost any gradient
EXACT = 1e-6  # the relative difference of a loss, which is a sum of float32 in another order


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=ROWS)
    parser.add_argument("--seed", type=int, default=0, help="of the runs")
    parser.add_argument("--out", type=Path, help="a page (.md) for the table; a .json of the same name is written too")
    parser.set_defaults(kills=0)


def main(chosen: argparse.Namespace) -> int:
    """Prints a line for each row and writes the table. Returns 1 if anything is not as promised."""
    imported()
    folder, rows = Path(tempfile.mkdtemp(prefix="torture-")), []
    try:
        for name in chosen.rows:
            rows.append(row_of(folder, name, chosen.seed))
            print(", ".join(f"{key}: {value}" for key, value in rows[-1].items()), flush=True)
    finally:
        shutil.rmtree(folder)
    if chosen.out is not None:
        from scripts.torture.page import write_rows

        write_rows(chosen.out, "ranks", [{k: v for k, v in row.items() if k != "promised"} for row in rows], chosen)
    return int(not all(row["promised"] for row in rows))


def imported() -> None:
    """Imports what every run needs, so that the forked processes have it."""
    import torch

    import train  # noqa: F401

    torch.set_num_threads(1)


def row_of(folder: Path, name: str, seed: int = 0) -> dict[str, Any]:
    """A row of the table."""
    task, changes = ROWS[name]
    place = folder / str(list(ROWS).index(name))
    own, sharded = (f"seed={seed}", *changes), changes is FSDP
    plain = (f"seed={seed}",) if sharded else own  # the run of one process that is compared with
    alone = run(place / "tested1", task, 1, *plain, steps=0)
    others = [run(place / f"tested{ranks}", task, ranks, *own, steps=0)[0] for ranks in (2, 3)]
    row: dict[str, Any] = {"row": name, "predictions on 2, 3 ranks": same(o["predictions"] for o in [*alone, *others])}
    row["metrics"] = same({**found["metrics"], "test_loss": None} for found in [*alone, *others])
    row["test_loss, relative"] = loss = max(apart(alone[0]["metrics"], o["metrics"], "test_loss") for o in others)
    row["trained, float32"] = rounded = trained(place / "float32", task, plain, own)
    method = 0.0
    if sharded:
        row["trained, float64"] = "-"
    else:
        row["trained, float64"] = method = trained(place / "float64", task, (*plain, *DOUBLE), (*own, *DOUBLE))
    row["promised"] = row["predictions on 2, 3 ranks"] == row["metrics"] == "equal" and loss < EXACT
    row["promised"] &= name in PER_RANK or (method < METHOD and rounded < ROUNDING)
    return {key: f"{value:.1e}" if isinstance(value, float) else value for key, value in row.items()}


def trained(place: Path, task: str, alone: tuple[str, ...], ranks: tuple[str, ...]) -> float:
    """The largest difference of a weight after the training of one process and of 2 ranks."""
    (one,), (first, *_) = run(place / "1", task, 1, *alone), run(place / "2", task, 2, *ranks)
    return difference(one["weights"], first["weights"])


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """The largest difference of a weight."""
    if one.keys() != other.keys():
        raise ValueError(f"weights of two models: {sorted(one.keys() ^ other.keys())}")
    return max((value.double() - other[name].double()).abs().max().item() for name, value in one.items())


def apart(one: Mapping[str, float], other: Mapping[str, float], name: str) -> float:
    """The relative difference of a metric."""
    return abs(one[name] - other[name]) / abs(one[name])


def same(values: Any) -> str:
    first, *others = values
    return "equal" if all(value == first for value in others) else "differ"


def run(folder: Path, task: str, ranks: int, *changes: str, steps: int = 8) -> list[dict[str, Any]]:
    """What every rank has after `steps` steps of training (0: untrained weights) and a test.

    Raises RuntimeError if a rank fails.
    """
    import torch

    folder.mkdir(parents=True)
    own = (f"data.batch_size={BATCH // ranks}", f"trainer.max_steps={max(steps, 1)}", f"paths.run_dir={folder}")
    several = (f"trainer.devices={ranks}", *(() if ranks == 1 or changes[1:2] == FSDP[:1] else DDP))
    # groups first: what is chosen later would be overruled by what an earlier value set
    given = [*COMMON, f"paths.data_dir={folder.parents[1]}/data", *TASKS[task], *changes, *own, *several]
    overrides = [*(one for one in given if is_group(one)), *(one for one in given if not is_group(one))]
    log, job = folder / "output.txt", partial(tested, overrides, folder, steps)
    codes = ended([started(log, job, **variables) for variables in environments(ranks)], seconds=300)
    if any(codes):
        raise RuntimeError(f"{task} on {ranks} ranks failed ({codes}):\n{log.read_text(errors='replace')[-3000:]}")
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(ranks)]


def is_group(override: str) -> bool:
    return "." not in override.partition("=")[0] and not override.startswith("seed=")


def environments(ranks: int) -> list[dict[str, str]]:
    """The variables that a launcher sets for each rank."""
    if ranks == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks), "NODE_RANK": "0"}
    return [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]


def tested(overrides: list[str], folder: Path, steps: int) -> None:
    """In a rank's own process: trains and tests, and saves what it has then."""
    import torch
    from pytorch_lightning.utilities.rank_zero import rank_zero_only

    from configs.composing import composed
    from tasks.common.build import build_datamodule, build_module, build_trainer
    from tasks.common.seeding import seed_run

    logging.basicConfig(level=logging.INFO)
    rank = rank_zero_only.rank = int(os.environ.get("RANK", "0"))  # Lightning set it when it was imported
    cfg = composed(*overrides)
    seed_run(cfg.seed, 1)
    datamodule = build_datamodule(cfg)
    module = build_module(cfg, datamodule)
    trainer = build_trainer(cfg)
    weights = {}
    if steps:
        trainer.fit(module, datamodule=datamodule)
        weights = trainer.strategy.lightning_module_state_dict()
    trainer.test(module, datamodule=datamodule, verbose=False)
    weights = {name: value for name, value in weights.items() if value.is_floating_point()}
    found = {"weights": weights, "metrics": module.test_metrics, "predictions": module.predictions}
    torch.save(found, folder / f"rank{rank}.pt")
