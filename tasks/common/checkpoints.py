"""Finds the weights that a test uses and reads them, with an error that says what is wrong."""

import os
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from tasks.common.checkpoint_files import LAST, read_checkpoint
from tasks.common.errors import CheckpointError


def checkpoint_to_test(trainer: Trainer, rule: str) -> str | None:
    """The file that `test_checkpoint=last|best` means, or None for the weights in memory, which are the last ones.

    Raises CheckpointError if the best were never saved: the last ones must not be tested under their name.
    """
    if rule == "last" or trainer.fast_dev_run:
        return None
    path = best_of(trainer)
    if not path or (trainer.is_global_zero and not Path(path).exists()):
        raise CheckpointError(
            f"test_checkpoint=best: no best checkpoint was saved in {trainer.global_step} steps"
            f"{f' ({path} is gone)' if path else ''}. It is saved after a validation: let there be one "
            "(trainer.val_check_interval, trainer.limit_val_batches), or use test_checkpoint=last"
        )
    return path


def saved_checkpoints(trainer: Trainer, folder: Path) -> dict[str, str]:
    """The files of `last` and `best`, relative to the run's folder; what was not saved is left out.

    Only the first rank's folder holds them: on the others this is empty.
    """
    if not trainer.is_global_zero:
        return {}
    files = {"last": folder / "checkpoints" / LAST, "best": best_of(trainer)}
    there = {rule: Path(file).resolve() for rule, file in files.items() if file and Path(file).is_file()}
    return {rule: os.path.relpath(path, folder.resolve()) for rule, path in there.items()}


def best_of(trainer: Trainer) -> str:
    """The file of the best weights so far; "" if none was saved."""
    savers = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    return next((saver.best_model_path for saver in savers if saver.monitor is not None), "")


def find_checkpoint(run: Path, name: str) -> Path:
    """`last`, `best` or a file name, under the checkpoints/ of a run's folder."""
    folder = run / "checkpoints"
    path = folder / (name if name.endswith(".ckpt") else f"{name}.ckpt")
    if not path.is_file():
        found = ", ".join(sorted(file.name for file in folder.glob("*.ckpt"))) or "nothing"
        raise CheckpointError(f"no checkpoint {path}: {folder} holds {found}; choose with checkpoint=<name>")
    return path


def load_module(kind: type[LightningModule], path: Path, **changes: Any) -> LightningModule:
    """The module saved at `path`, with `changes` to its saved settings.

    Raises CheckpointError for a file that `read_checkpoint` refuses or that belongs to another model.
    """
    read_checkpoint(path)
    try:
        return kind.load_from_checkpoint(path, map_location="cpu", weights_only=True, **changes)
    except (RuntimeError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} does not fit {kind.__name__}: {error}") from error
