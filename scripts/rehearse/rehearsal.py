"""One experiment's rehearsal: each check is a row of its table, and says OK or what is wrong."""

import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from configs.composing import composed
from configs.errors import ConfigError
from configs.schema import validate
from datamodules.errors import DataError
from datamodules.fake import Fake, write_fake
from scripts.cost.counting import Inputs, built
from scripts.cost.hooks import batch_of, hooks_of, is_generated
from scripts.rehearse.first_steps import quiet, run_first_steps
from scripts.rehearse.plan import KEPT, Device, Plan, planned
from scripts.rehearse.shapes import different, shapes
from scripts.rehearse.step import Step, measured_step
from tasks.common.build import build_datamodule
from tasks.common.errors import CheckpointError, NonFiniteLossError

log = logging.getLogger(__name__)

TOLD = (ConfigError, DataError, CheckpointError, NonFiniteLossError, HydraException, OmegaConfBaseException)
TOKENS = 64  # prompt and description that a language model reads in training
GIB = 2**30


@dataclass
class Rehearsal:
    """rows: check -> what was found. wrong: the problems; empty if all is well."""

    experiment: str
    rows: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


def rehearsed(experiment: str, overrides: list[str], device: Device) -> Rehearsal:
    """Runs every check; the first that fails ends it, as it would end the run."""
    result, start = Rehearsal(experiment), time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        try:
            for check, found in checks(experiment, overrides, device, Path(place), result.wrong):
                result.rows[check] = found
        except TOLD as error:
            result.wrong.append(str(error).splitlines()[0])
        except Exception as error:  # whatever it is, the run would end with it
            result.wrong.append(f"{type(error).__name__}: {error}")
    result.seconds = time.perf_counter() - start
    return result


def checks(
    experiment: str, overrides: list[str], device: Device, place: Path, wrong: list[str]
) -> Iterator[tuple[str, str]]:
    """Each check's name and what it found, in the order in which a run meets them."""
    given = [f"experiment={experiment}", *overrides, f"paths.log_dir={place}/logs"]
    cfg = composed(*given)
    validate(cfg)
    if is_generated(cfg):
        raise ConfigError(f"scale={cfg.scale_name}: it generates its own data, so run it instead of rehearsing it")
    yield "configuration", f"valid; scale {cfg.scale_name}, mask {cfg.mask.scope}, fusion {cfg.mask.fusion}"

    (place / "data").mkdir()
    fake = write_fake(place / "data", OmegaConf.to_container(cfg.data, resolve=True))
    real_cfg = on_fake_files(cfg, fake, place / "data")
    with quiet():
        datamodule = build_datamodule(real_cfg)
        datamodule.setup()
        real = next(iter(datamodule.train_dataloader()))
    inputs = Inputs(cfg)
    stand_in = batch_of(inputs.stand_in, 1)
    wrong += different(real, stand_in)
    yield "batch from the real files' formats", shapes(real)

    module = as_trained(cfg, inputs, "meta")
    text = batch_of(inputs.stand_in, hooks_of(cfg).words(module, inputs.sample(torch.device("meta")), TOKENS))
    with quiet():
        step = measured_step(cfg, module, partial(as_trained, cfg, inputs, "cpu"), text, real)
    if step.reason:
        log.warning("the training step cannot be followed on the meta device: %s", step.reason)
    yield "parameters", f"{sum(module.parts().values()):,} in all, {step.trained:,} trained"
    yield "memory per device", memory(step, device)
    if step.memory > device.gib * GIB:
        wrong.append(
            f"memory: {step.memory / GIB:.1f} GiB of a device's {device.gib:g}; a smaller data.batch_size with "
            "trainer.accumulate_grad_batches needs less"
        )
    plan = planned(cfg, module, step, fake, device)
    yield "one step", f"{step.flops / 1e12:.2f} TFLOPs for {cfg.data.batch_size} samples ({step.method})"
    yield "training", training(plan, device)
    yield "checkpoints", checkpoints(plan)
    yield "data on disk", f"{fake.disk / 1e9:,.1f} GB: {fake.words}"

    small = composed(*[one for one in given if not one.startswith("scale=")], "scale=smoke")
    metrics, files = run_first_steps(real_cfg, small, place / "run")
    yield "first 3 steps, small model", f"loss {metrics['train_loss']:.3f}, tested, {len(files)} files left"


def as_trained(cfg: DictConfig, inputs: Inputs, device: str) -> nn.Module:
    """The whole module in training mode, with the types and the frozen parts that it has in a run."""
    module, hooks = built(cfg, inputs, device), hooks_of(cfg)
    hooks.precision(module, cfg.task)
    hooks.training(module, cfg.task)
    return module.train()


def on_fake_files(cfg: DictConfig, fake: Fake, folder: Path) -> DictConfig:
    """The configuration with the fake files as its data."""
    cfg = cfg.copy()
    with open_dict(cfg):
        cfg.data.update(fake.settings)
        cfg.data.root = str(folder)
        cfg.data.num_workers = 0
        cfg.data.batch_size = min(cfg.data.batch_size, fake.samples)
    return cfg


def memory(step: Step, device: Device) -> str:
    parts = [("parameters", step.parameters), ("gradients", step.gradients), ("optimiser", step.optimiser)]
    words = ", ".join(f"{name} {size / GIB:.2f}" for name, size in [*parts, ("activations", step.activations)])
    return f"{step.memory / GIB:.2f} of {device.gib:g} GiB: {words}"


def training(plan: Plan, device: Device) -> str:
    return (
        f"{plan.hours:,.1f} hours on {device.number} device{'s' * (device.number > 1)}: {plan.updates:,} updates, "
        f"{plan.epochs:,.1f} epochs, {plan.seconds:.3f} s per batch at {plan.rate / 1e12:.0f} TFLOPS"
    )


def checkpoints(plan: Plan) -> str:
    return (
        f"{plan.checkpoint / 1e9:.2f} GB each, {KEPT * plan.checkpoint / 1e9:.2f} GB for {KEPT}; "
        f"{plan.per_hour:.2f} per hour, {plan.validations:,} validations"
    )
