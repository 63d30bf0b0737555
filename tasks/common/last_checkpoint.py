"""last.ckpt is of the newest step: saved after every validation, every `save_minutes`, at a signal, and at the end.

Checkpoints lie between two updates of the weights, never amid an accumulation of gradients, whose sum they do not hold.
"""

import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from configs.knobs import Positive
from datamodules.loading import Unrepeated
from tasks.common.checkpoint_files import LAST, clean
from tasks.common.gather import several_ranks
from tasks.common.interrupts import INTERRUPTS

IN_VALIDATION = "in_validation"  # key of a checkpoint that a signal left within a validation, which then runs again


class LastCheckpoint(Checkpoint):
    """Writes `folder`/last.ckpt. save_minutes: the longest time between two; None: after validations only."""

    def __init__(self, folder: str, save_minutes: Positive | None = 15) -> None:
        self.path = Path(folder) / LAST
        self.save_minutes = save_minutes
        self.saved_at = time.monotonic()
        self.in_validation = False  # while a checkpoint is saved that a signal asked for amid a validation
        self.owed = False  # a validation ended amid an accumulation, so its checkpoint waits for the update
        self.common = 0  # validation batches that every rank has

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            clean(self.path.parent)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_at = time.monotonic()
        if not trainer.fast_dev_run:
            INTERRUPTS.defer()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves here unless the epoch ends or a validation follows, after which the next place to save comes."""
        if trainer.fast_dev_run or not between_updates(trainer):
            return
        late = self.save_minutes is not None and time.monotonic() - self.saved_at >= 60 * self.save_minutes
        stop = INTERRUPTS.pending is not None
        if agreed(trainer, stop or late or self.owed):
            self.save(trainer)
            self.stop_if_asked(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.common = own_batches(trainer)
        if several_ranks():
            counts: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(counts, self.common)
            self.common = min(counts)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """A validation may take longer than a scheduler waits: it is left, and a resumed run makes it anew."""
        if not training(trainer) or batch_idx >= self.common or amid_accumulation(trainer):
            return
        if agreed(trainer, INTERRUPTS.pending is not None):
            self.save(trainer, in_validation=True)
            self.stop_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not training(trainer):
            return
        if amid_accumulation(trainer):
            self.owed = True
            return
        self.save(trainer)
        self.stop_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves what training ended with, and what the end of its last epoch added."""
        if not trainer.fast_dev_run:
            self.save(trainer)
            self.stop_if_asked(trainer)
            INTERRUPTS.release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        INTERRUPTS.deferred = False

    def save(self, trainer: Trainer, in_validation: bool = False) -> None:
        self.in_validation = in_validation
        trainer.save_checkpoint(self.path, weights_only=False)
        self.in_validation, self.owed, self.saved_at = False, False, time.monotonic()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[IN_VALIDATION] = self.in_validation

    def stop_if_asked(self, trainer: Trainer) -> None:
        """Raises the signal's exception on all ranks if one of them got a signal."""
        number = INTERRUPTS.pending
        if several_ranks():
            numbers: list[Any] = [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(numbers, number)
            number = next((found for found in numbers if found is not None), None)
        if number is not None:
            INTERRUPTS.release(number)


def own_batches(trainer: Trainer) -> int:
    """How many validation batches this rank really has: the length of an Unrepeated is at least 1."""
    loaders = trainer.val_dataloaders
    loaders = loaders if isinstance(loaders, list | tuple) else [loaders]
    samplers = [getattr(loader, "sampler", None) for loader in loaders]
    return sum(
        min(most, sampler.batches) if isinstance(sampler, Unrepeated) else most
        for sampler, most in zip(samplers, trainer.num_val_batches, strict=True)
    )


def training(trainer: Trainer) -> bool:
    """Whether a validation belongs to a training that keeps checkpoints."""
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and not trainer.fast_dev_run


def agreed(trainer: Trainer, wish: bool) -> bool:
    """Whether any rank wishes it. All ranks call it at the same step."""
    return wish if not several_ranks() else trainer.strategy.reduce_boolean_decision(wish, all=False)


def amid_accumulation(trainer: Trainer) -> bool:
    """Whether gradients of earlier batches wait for the update that they belong to."""
    return not trainer.is_last_batch and (trainer.fit_loop.batch_idx + 1) % trainer.accumulate_grad_batches != 0


def between_updates(trainer: Trainer) -> bool:
    """Whether a checkpoint can be saved after this batch: no update is incomplete, no validation or epoch's end due."""
    return not (trainer.is_last_batch or amid_accumulation(trainer) or validation_follows(trainer))


def validation_follows(trainer: Trainer) -> bool:
    """Whether Lightning validates after this batch, by its counts of batches."""
    every = trainer.check_val_every_n_epoch
    if not trainer.enable_validation or (every is not None and (trainer.current_epoch + 1) % every):
        return False
    batches = trainer.fit_loop.total_batch_idx if every is None else trainer.fit_loop.batch_idx
    interval = trainer.val_check_batch
    return interval not in (None, float("inf")) and (batches + 1) % interval == 0
