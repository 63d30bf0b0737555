"""Finds the weights that a test uses and reads them, with an error that says what is wrong."""

import pickle
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from tasks.common.errors import CheckpointError


def checkpoint_to_test(trainer: Trainer, rule: str) -> str | None:
    """The file that `test_checkpoint=last|best` means, or None for the weights in memory, which are the last ones.

    Raises CheckpointError if the best were never saved: the last ones must not be tested under their name.
    """
    if rule == "last" or trainer.fast_dev_run:
        return None
    path = getattr(trainer.checkpoint_callback, "best_model_path", "")
    if not path or (trainer.is_global_zero and not Path(path).exists()):
        raise CheckpointError(
            f"test_checkpoint=best: no best checkpoint was saved in {trainer.global_step} steps"
            f"{f' ({path} is gone)' if path else ''}. It is saved after a validation: let there be one "
            "(trainer.val_check_interval, trainer.limit_val_batches), or use test_checkpoint=last"
        )
    return path


def save_last(trainer: Trainer) -> None:
    """Saves the weights that training ended with as last.ckpt: Lightning saves it only after validations."""
    callback = trainer.checkpoint_callback
    if not isinstance(callback, ModelCheckpoint) or not callback.save_last or trainer.fast_dev_run:
        return
    path = Path(callback.last_model_path or Path(callback.dirpath) / "last.ckpt")
    saved = torch.load(path, map_location="meta", weights_only=True)["global_step"] if path.is_file() else None
    if trainer.strategy.broadcast(saved) != trainer.global_step:  # the first rank's word counts: it has the file
        callback.last_model_path = str(path)
        trainer.save_checkpoint(path)


def saved_checkpoints(trainer: Trainer, folder: Path) -> dict[str, str]:
    """The files of `last` and `best`, relative to the run's folder; what was not saved is left out.

    Only the first rank's folder holds them: on the others this is empty.
    """
    callback = trainer.checkpoint_callback
    if callback is None or not trainer.is_global_zero:
        return {}
    files = {"last": callback.last_model_path, "best": callback.best_model_path}
    there = {rule: Path(file).absolute() for rule, file in files.items() if file and Path(file).is_file()}
    return {rule: str(path.relative_to(folder.absolute())) for rule, path in there.items()}


def find_checkpoint(run: Path, name: str) -> Path:
    """`last`, `best` or a file name, under the checkpoints/ of a run's folder."""
    folder = run / "checkpoints"
    path = folder / (name if name.endswith(".ckpt") else f"{name}.ckpt")
    if not path.is_file():
        found = ", ".join(sorted(file.name for file in folder.glob("*.ckpt"))) or "nothing"
        raise CheckpointError(f"no checkpoint {path}: {folder} holds {found}; choose with checkpoint=<name>")
    return path


def checkpoint_to_resume(path: str | None) -> Path | None:
    """The file that `resume=` names; None if nothing is resumed. Raises CheckpointError if it cannot be read."""
    if path is None:
        return None
    if not Path(path).is_file():
        raise CheckpointError(f"resume={path}: there is no such file; a run keeps checkpoints/last.ckpt in its folder")
    read_checkpoint(Path(path))
    return Path(path)


def read_checkpoint(path: Path, device: str = "meta", hint: str = "") -> Any:
    """What a checkpoint's file holds: tensors (on "meta" their shapes alone) and plain values; no code of it is run.

    Raises CheckpointError for a file that is cut off or not a checkpoint; `hint` is added to its message.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read: it is cut off, or not a checkpoint of this "
            f"project ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'empty'}){hint}"
        ) from error


def load_module(kind: type[LightningModule], path: Path, **changes: Any) -> LightningModule:
    """The module saved at `path`, with `changes` to its saved settings.

    Raises CheckpointError for a file that `read_checkpoint` refuses or that belongs to another model.
    """
    read_checkpoint(path)
    try:
        return kind.load_from_checkpoint(path, map_location="cpu", weights_only=True, **changes)
    except (RuntimeError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} does not fit {kind.__name__}: {error}") from error
