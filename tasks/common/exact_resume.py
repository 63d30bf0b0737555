"""What Lightning's checkpoints lack for a resumed run to be the run that was not interrupted, bit for bit.

Every checkpoint gets the generators' states of every rank, the sum of the epoch's training loss, the settings that it
was trained with, the seconds so far, and whether training had ended. On load they are put back, each at its moment, and
the best checkpoint comes along to the new folder.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn

from tasks.common.checkpoint_files import bring
from tasks.common.errors import CheckpointError
from tasks.common.gather import several_ranks
from tasks.common.generators import generator_states, set_generator_states
from tasks.common.interrupts import INTERRUPTS
from tasks.common.last_checkpoint import IN_VALIDATION, amid_accumulation
from tasks.common.task import Task

log = logging.getLogger(__name__)

KEY = "exact_resume"
FORMAT = 1


class ExactResume(Callback):
    """facts: plain values that every checkpoint keeps (settings, run ids). seconds: what the run took so far, by part.
    source: the checkpoint that is resumed, None for a new run."""

    def __init__(self, facts: dict[str, Any], seconds: Callable[[], dict[str, float]], source: Path | None) -> None:
        self.facts, self.seconds, self.source = facts, seconds, source
        self.generators: dict[str, Any] | None = None  # to be set before the first batch
        self.stopped = False  # training had ended, or an early stop was decided
        self.steps: int | None = None  # the trainer's own limit, while it is raised for a validation
        self.ended = False

    # Saving

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        own: dict[str, Any] = {"generators": generator_states(pl_module.device)}
        if isinstance(pl_module, Task):
            own["epoch_loss"] = pl_module.epoch_loss.state_dict()
        ranks = [own]
        if several_ranks():
            ranks = [{}] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(ranks, own)
        checkpoint[KEY] = {
            **self.facts,
            "format": FORMAT,
            "ranks": ranks,
            "seconds": self.seconds(),
            "amid_accumulation": not self.ended and amid_accumulation(trainer),
            "stopped": self.ended or trainer.should_stop,
        }

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.ended = True  # before LastCheckpoint saves: Lightning calls savers last

    # Loading, in the order of the calls

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            checkpoint["callbacks"] = {}  # a test needs the weights; the callbacks stay as the training left them
        if trainer.state.fn != TrainerFn.FITTING or self.source is None:
            return
        ranks = checkpoint[KEY]["ranks"]
        if len(ranks) != trainer.world_size:
            raise CheckpointError(
                f"resume: {self.source} is of a run of {len(ranks)} processes, this one has {trainer.world_size}; "
                "resume it with as many (trainer.devices, trainer.num_nodes)"
            )
        own = ranks[trainer.global_rank]
        if isinstance(pl_module, Task) and "epoch_loss" in own:
            pl_module.epoch_loss.load_state_dict(own["epoch_loss"])
        self.generators, self.stopped = own["generators"], checkpoint[KEY]["stopped"]
        if checkpoint.get(IN_VALIDATION):
            self.steps = trainer.fit_loop.epoch_loop.max_steps
            validation_again(checkpoint["loops"]["fit_loop"])
        for callback in trainer.callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.state_key in checkpoint["callbacks"]:
                state = brought_along(checkpoint["callbacks"][callback.state_key], callback, trainer, self.source)
                lost = checkpoint["callbacks"][callback.state_key]["best_model_path"] and not state["best_model_path"]
                if lost and self.facts["settings"]["test_checkpoint"] == "best":
                    raise CheckpointError(
                        f"resume: the best checkpoint is gone from {self.source.parent}, and it would be tested"
                    )
                checkpoint["callbacks"][callback.state_key] = state

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.stopped:
            trainer.should_stop = True
        if self.steps is not None and self.steps > 0:
            # the validation after the last step is still to come: a loop that has all its steps would not begin
            trainer.fit_loop.epoch_loop.max_steps = self.steps + 1

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.steps is not None:
            trainer.fit_loop.epoch_loop.max_steps, self.steps = self.steps, None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        INTERRUPTS.install()  # Lightning put its own handler in place for the test

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The last moment before the first draw: loading and a loader's start may have drawn already."""
        if self.generators is not None:
            set_generator_states(self.generators, pl_module.device)
            self.generators = None


def validation_again(loop: dict[str, Any]) -> None:
    """Changes the state of Lightning's loops to "within the first batch of a validation", which Lightning finishes."""
    progress = loop["epoch_loop.val_loop.batch_progress"]
    progress["total"].update(ready=1, started=1, processed=0, completed=0)
    progress["current"].update(ready=0, started=0, processed=0, completed=0)


def brought_along(state: dict[str, Any], callback: ModelCheckpoint, trainer: Trainer, source: Path) -> dict[str, Any]:
    """The state of the resumed run's ModelCheckpoint for this run's folder, to which its files are brought.

    Lightning would drop the best score, since the folder is another one. A file that is gone is left out.
    """
    folder = Path(callback.dirpath)
    moved: dict[str, str] = {}
    for old in dict.fromkeys((*state["best_k_models"], state["best_model_path"])):
        if not old:
            continue
        inside = Path(old).is_relative_to(state["dirpath"])
        relative = Path(old).relative_to(state["dirpath"]) if inside else Path(old).name
        there = next((path for path in (source.parent / relative, Path(old)) if path.is_file()), None)
        if there is None:
            log.warning("%s, the best checkpoint of the resumed run, is gone", old)
            continue
        moved[old] = str(folder / relative)
        if trainer.is_global_zero and there.absolute() != Path(moved[old]).absolute():
            Path(moved[old]).parent.mkdir(parents=True, exist_ok=True)
            bring(there, Path(moved[old]))
    trainer.strategy.barrier("best checkpoint")
    lost = state["best_model_path"] not in moved
    return {
        **state,
        "dirpath": callback.dirpath,
        "best_model_path": moved.get(state["best_model_path"], ""),
        "best_model_score": None if lost else state["best_model_score"],
        "best_k_models": {moved[old]: score for old, score in state["best_k_models"].items() if old in moved},
        "kth_best_model_path": moved.get(state["kth_best_model_path"], ""),
        "kth_value": callback.kth_value if lost else state["kth_value"],
        "last_model_path": "",
    }
