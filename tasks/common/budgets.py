"""Several budgets from one run: a shorter run goes on from a state that a longer one saved before its rate fell.

    train.py experiment=madv2_lcaam scale=mini task.schedule=wsd callbacks=budgets
    train.py experiment=madv2_lcaam scale=mini task.schedule=wsd trainer.max_steps=500 task.warmup=0.4 resume=branch

The first run trains 1,000 steps and keeps `checkpoints/branch.ckpt` of step 350. The second one has a warm-up of as
many steps, so its first 350 steps would be the same: it takes them from there, and trains the other 150.
"""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from configs.knobs import Inside
from tasks.common.checkpoint_files import BRANCH
from tasks.common.last_checkpoint import amid_accumulation, between_updates, training
from tasks.common.optimisation import rate_factor

BUDGET = {"trainer.max_steps", "task.warmup"}  # settings in which two budgets may differ


class BranchCheckpoint(Checkpoint):
    """Writes `folder`/branch.ckpt once, after the share `share` of the run's steps (trainer.max_steps).

    If the end of an epoch comes there, or an update that is not complete, it is one of the next steps, or the end of
    the next validation. A run that was resumed later than that writes none.
    """

    def __init__(self, folder: str, share: Inside = 0.35) -> None:
        self.folder, self.share = folder, share
        self.owed = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.owed = trainer.global_step <= self.share * trainer.max_steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if between_updates(trainer):
            self.save_if_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if training(trainer) and not amid_accumulation(trainer):
            self.save_if_due(trainer)

    def save_if_due(self, trainer: Trainer) -> None:
        if self.owed and trainer.global_step >= self.share * trainer.max_steps:
            trainer.save_checkpoint(f"{self.folder}/{BRANCH}")
            self.owed = False


def same_so_far(before: Mapping[str, Any], after: Mapping[str, Any], step: int) -> bool:
    """Whether two runs whose settings differ in BUDGET alone have the same learning rates up to `step` updates.

    before, after: settings as configs.identity.deciding gives them. False if a length is not given in steps, or if the
    task has no schedule.
    """
    nodes = ((node["trainer"], node["task"]) for node in (before, after))
    runs = [(trainer.get("max_steps"), task.get("warmup"), task.get("schedule")) for trainer, task in nodes]
    if any(None in run or run[0] < step for run in runs):
        return False
    first, second = ([rate_factor(number, *run) for number in range(step)] for run in runs)
    return first == second
