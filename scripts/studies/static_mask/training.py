"""Does SwinBERT's static mask wake up while the mini captioning model trains?

    python -m scripts.studies.static_mask train --out docs/results/static_mask_train.json

Runs of experiment=msrvtt_baseline with the mask as published and in the log-sigmoid form, as train.py would train them,
watched every few steps: the table, and the gradients on it of the caption loss and of the weighted sparsity loss, each
by itself, on the batch of that step. With the first seed also three what-ifs of the published form: without its
sparsity loss, and with tables that start wider open, at N(6, 1) and N(10, 1). A mask is awake when at least one entry
off the diagonal passes anything in float32.

--set changes the settings of all runs, as train.py's command line does: --set task.weight_decay=0.2 data.seed=1.
"""

import argparse
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer

from configs.composing import composed
from configs.schema import validate
from lcaam import StaticMask
from scripts.benchmarks.common import at_least_one
from scripts.studies.static_mask.openness import HALF, LEAST, gradient, openness, scientific, sigmoid_for
from tasks.common.build import build_datamodule, build_module, build_trainer
from tasks.common.remarks import quiet
from tasks.common.seeding import seed_run

SILENT = ("logger=csv", "callbacks=none", "floors.enabled=false", "trainer.enable_progress_bar=false")
SILENT += ("trainer.enable_checkpointing=false",)


@dataclass(frozen=True)
class Variant:
    """A mask's configuration, what differs from it, and what is added to its table before the first step."""

    mask: str
    changes: tuple[str, ...] = ()
    shift: float = 0.0
    what_if: bool = False  # run with the first seed only


VARIANTS = {
    "published": Variant("static_swinbert"),
    "log sigmoid": Variant("static_logsigmoid"),
    "published, no sparsity loss": Variant("static_swinbert", ("mask.sparsity=0",), what_if=True),
    "published, t + 6": Variant("static_swinbert", shift=6.0, what_if=True),
    "published, t + 10": Variant("static_swinbert", shift=10.0, what_if=True),
}


class Probe(Callback):
    """Looks at the mask before every `every`-th step of the optimiser and after the last one; training stays the same.

    records: openness.openness of the table with `step`, `caption` and `sparsity` (openness.gradient) and the loss.
    validations: `step` and `loss`.
    """

    def __init__(self, every: int) -> None:
        self.every, self.records, self.validations = every, [], []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: dict, batch_idx: int) -> None:
        step = trainer.global_step
        seen = self.records and self.records[-1]["step"] == step  # gradients of several batches make one step
        if step % self.every == 0 and not seen:
            self.look(trainer, pl_module, batch, batch_idx)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: dict, batch_idx: int
    ) -> None:
        if trainer.global_step == trainer.max_steps:
            self.look(trainer, pl_module, batch, batch_idx)

    def look(self, trainer: Trainer, module: LightningModule, batch: dict, index: int) -> None:
        """Appends a record; the words that are hidden are those of the training step."""
        net = mask_of(module)
        draw = (torch.initial_seed(), trainer.current_epoch, index, trainer.global_rank)
        with torch.random.fork_rng():
            loss, _ = module.hidden_loss(batch, draw)
            caption = gradient(net, loss)
        weighted = module.hparams.mask["sparsity"] * net.sparsity_loss()
        found = {"step": trainer.global_step, "loss": loss.item()} | openness(net)
        self.records.append(found | {"caption": caption, "sparsity": gradient(net, weighted)})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validations.append({"step": trainer.global_step, "loss": trainer.callback_metrics["val/loss"].item()})


def mask_of(module: LightningModule) -> StaticMask:
    return module.model.stack.masks.nets[0]


def options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--scale", default="mini", choices=["smoke", "mini", "paper"])
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="what-ifs: the first of them")
    command.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="VARIANT")
    command.add_argument("--steps", type=at_least_one, help="steps of a run; default: the scale's")
    command.add_argument("--every", type=at_least_one, default=20, help="steps between two looks")
    command.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other settings, of all runs")


def study(arguments: argparse.Namespace) -> dict[str, Any]:
    runs = []
    for name in arguments.variants:
        for seed in arguments.seeds[:1] if VARIANTS[name].what_if else arguments.seeds:
            run, _ = trained(VARIANTS[name], seed, arguments)
            runs.append({"variant": name, "seed": seed} | run)
            first, last = run["records"][0]["sigmoid"]["1.0"], run["records"][-1]["sigmoid"]["1.0"]
            text = f"largest sigmoid {first:.5f} -> {last:.5f}, {awake(run['records'])}, validation loss "
            print(f"{name:<28} seed {seed}: {text}{loss_of(run)}, {run['seconds']:.0f} s", flush=True)
    return {
        "scale": arguments.scale,
        "set": arguments.set,
        "passes_from": sigmoid_for(LEAST, "add"),
        "half_open_from": sigmoid_for(HALF, "add"),
        "runs": runs,
    }


def trained(variant: Variant, seed: int, arguments: argparse.Namespace) -> tuple[dict[str, Any], LightningModule]:
    """One run as train.py makes it, without its record, test and files; what the probe saw, and the trained module."""
    overrides = ["experiment=msrvtt_baseline", f"mask={variant.mask}", f"scale={arguments.scale}", f"seed={seed}"]
    overrides += [*SILENT, *variant.changes]
    if arguments.steps:
        overrides += [f"trainer.max_steps={arguments.steps}"]
        overrides += [f"trainer.val_check_interval={max(1, arguments.steps // 3)}"]
    cfg = composed(*overrides, *arguments.set)
    validate(cfg)
    cfg.logger = None
    seed_run(cfg.seed, cfg.threads)
    datamodule = build_datamodule(cfg)
    module = build_module(cfg, datamodule)
    net = mask_of(module)
    net.table.data += variant.shift
    start, probe = time.perf_counter(), Probe(arguments.every)
    with quiet():
        trainer = build_trainer(cfg)
        trainer.callbacks.append(probe)
        trainer.fit(module, datamodule=datamodule)
    group = next(g for g in trainer.optimizers[0].param_groups if any(p is net.table for p in g["params"]))
    settings = {"sparsity": cfg.mask.sparsity, "weight_decay": group["weight_decay"], "lr": cfg.task.lr}
    settings |= {
        "shift": variant.shift,
        "mask": variant.mask,
        "steps": trainer.global_step,
        "table": [*net.table.shape],
    }
    seen = {"records": probe.records, "validations": probe.validations}
    return settings | seen | {"seconds": time.perf_counter() - start}, module


# -- what is shown ----------------------------------------------------------------------------------------------------


def awake(records: list[dict[str, Any]]) -> str:
    """When at least one entry passes anything: "never", "always", "from step 40", "until step 60", or both ends.

    A step is the first look at which it was awake, or asleep again; looks are --every steps apart.
    """
    states = [record["passes"] > 0 for record in records]
    if not any(states):
        return "never"
    if all(states):
        return "always"
    changes = [i for i in range(1, len(states)) if states[i] != states[i - 1]]
    words = [f"{'from' if states[i] else 'until'} step {records[i]['step']}" for i in changes]
    return ", ".join(words)


def loss_of(run: dict[str, Any]) -> str:
    return f"{run['validations'][-1]['loss']:.3f}" if run["validations"] else "-"


def table(result: dict[str, Any]) -> str:
    """Markdown: a sentence, then one row per run; arrows go from before the first step to after the last one."""
    columns = ["mask", "seed", "median sigmoid", "largest sigmoid", "pass anything", "half open", "awake"]
    columns += ["caption gradient reaches", "its largest norm", "sparsity gradient, largest norm", "validation loss"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for run in result["runs"]:
        records = run["records"]
        first, last = records[0], records[-1]

        def moved(level: str, first: dict = first, last: dict = last) -> str:
            return f"{digits(first['sigmoid'][level])} → {digits(last['sigmoid'][level])}"

        def shares(field: str, first: dict = first, last: dict = last) -> str:
            return f"{percent(first[field])} → {percent(last[field])}"

        cells = [run["variant"], str(run["seed"]), moved("0.5"), moved("1.0"), shares("passes"), shares("half_open")]
        reached = max(record["caption"]["nonzero"] for record in records)
        norms = [max(record[loss]["norm"] for record in records) for loss in ("caption", "sparsity")]
        cells += [awake(records), f"at most {percent(reached)}", *map(scientific, norms)]
        lines.append(f"| {' | '.join([*cells, loss_of(run)])} |")
    return "\n".join([verdict(result["runs"]), "", *lines])


def verdict(runs: list[dict[str, Any]]) -> str:
    """For each kind of run: when it was awake, and at how many looks no entry got a gradient from the captions."""
    parts = []
    for name in dict.fromkeys(run["variant"] for run in runs):
        of_it = [run for run in runs if run["variant"] == name]
        said = ", ".join(dict.fromkeys(awake(run["records"]) for run in of_it))
        looks = [record["caption"]["nonzero"] for run in of_it for record in run["records"]]
        dead = sum(share == 0 for share in looks)
        parts.append(
            f"*{name}* {said} ({len(of_it)} run{'s'[: len(of_it) > 1]}; no gradient at {dead} of {len(looks)} looks)"
        )
    return f"Awake: {'; '.join(parts)}."


def digits(weight: float) -> str:
    """A sigmoid in two significant digits, of its distance from 1 if it is near 1: 0.5, 0.97, 0.9897, 0.999954."""
    distance = min(weight, 1 - weight)
    places = 7 if distance <= 0 else max(2, 1 - int(np.floor(np.log10(distance))))
    return f"{weight:.{min(places, 7)}f}"


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def plot(result: dict[str, Any]) -> Figure:
    """The most open entry over the steps, and both losses' gradients on the table; zeros are not drawn but counted."""
    figure = Figure(figsize=(12, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = list(dict.fromkeys(run["variant"] for run in result["runs"]))
    for run in result["runs"]:
        colour, steps = f"C{names.index(run['variant'])}", [record["step"] for record in run["records"]]
        for level, line in (("1.0", "-"), ("0.5", "--")):
            weights = [min(record["sigmoid"][level], 1 - 1e-12) for record in run["records"]]
            left.plot(steps, weights, line, color=colour, linewidth=1.2)
        if run is not next(other for other in result["runs"] if other["variant"] == run["variant"]):
            continue  # another seed
        for loss, line in (("caption", "-"), ("sparsity", ":")):
            norms = np.array([record[loss]["norm"] for record in run["records"]])
            zeros = f" (0 at {(norms == 0).sum()} of {len(norms)} looks)" if (norms == 0).any() else ""
            if loss == "caption" or run["sparsity"]:
                label = f"{run['variant']}: {loss}{zeros}"
                right.plot(steps, np.where(norms > 0, norms, np.nan), line, color=colour, linewidth=1.2, label=label)
    for level, name in (
        ("passes_from", "published form passes anything"),
        ("half_open_from", "published form half open"),
    ):
        left.axhline(result[level], color="0.5", linewidth=0.8)
        left.text(0.99, result[level], name, transform=left.get_yaxis_transform(), ha="right", va="top", fontsize=7)
    left.set_yscale("logit")
    left.yaxis.set_minor_formatter("")
    left.set(title="off the diagonal: most open entry, and median (dashed)", xlabel="step", ylabel="sigmoid(t)")
    right.set(title="gradient on the table, first seed", xlabel="step", ylabel="norm", yscale="log")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure
