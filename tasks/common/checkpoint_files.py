"""Checkpoint files that are whole or absent, are verified when they are read, and have a predecessor.

Lightning writes to the temporary folder and moves the file: between file systems that is a copy over the only good one.
"""

import errno
import logging
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from tasks.common.errors import CheckpointError, StorageError
from tasks.common.files import alive, discard, draft_of, synced, why_not_written

log = logging.getLogger(__name__)

LAST, PREVIOUS = "last.ckpt", "last.previous.ckpt"
BRANCH = "branch.ckpt"  # from which runs of other lengths go on


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's reader and writer of checkpoints, with the promises above; StorageError if there is no room."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        return read_checkpoint(Path(path), map_location)


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Replaces `path` by a complete file, or leaves it as it is; the last.ckpt before stays as last.previous.ckpt."""
    draft = draft_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            writer = Writer(file)
            try:
                torch.save(checkpoint, writer)
            except RuntimeError as error:  # torch's own, after a write that failed
                raise writer.error or error from error
            synced(file)
        if path.name == LAST and path.exists():
            keep(path, path.with_name(PREVIOUS))
        draft.replace(path)
        synced(path.parent)
    except OSError as error:
        discard(draft)
        left = f"; the checkpoint before it is whole: {path}" if path.exists() else ""
        raise StorageError(f"{why_not_written(path, error)}{left}") from error
    except BaseException:
        discard(draft)
        raise


class Writer:
    """A file that remembers why it could not be written, which torch does not say."""

    def __init__(self, file: Any) -> None:
        self.file, self.error = file, None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def keep(path: Path, name: Path) -> None:
    """A second name for a file, in place of what had this name. The file stays under its own name at all times."""
    other = draft_of(name)
    try:
        other.unlink(missing_ok=True)
        os.link(path, other)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        path.replace(name)  # a file system without links: for a moment only the predecessor is there
        return
    other.replace(name)


def bring(path: Path, name: Path) -> None:
    """Gives a file a second name, of which no byte is copied; on another file system it is copied."""
    draft = draft_of(name)
    try:
        name.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        try:
            os.link(path, draft)
        except OSError:
            shutil.copyfile(path, draft)
        draft.replace(name)
    except OSError as error:
        discard(draft)
        raise StorageError(why_not_written(name, error)) from error


def clean(folder: Path) -> None:
    """Removes the drafts that a killed process left in a folder of checkpoints."""
    for draft in folder.glob(".*.ckpt.*"):
        process = draft.suffix[1:]
        if process.isdigit() and not alive(int(process)):
            draft.unlink(missing_ok=True)


def read_checkpoint(path: Path, device: Any = "meta", hint: str = "") -> Any:
    """What a checkpoint's file holds: tensors (on "meta" their shapes alone) and plain values; no code of it is run.

    Raises CheckpointError for a file that is cut off, damaged or not a checkpoint; `hint` is added to its message.
    """
    try:
        verify(path)
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # of any kind: zipfile, zlib, pickle and torch each have their own for damaged bytes
        size = f" ({path.stat().st_size:,} bytes)" if path.is_file() else ""
        raise CheckpointError(
            f"{path}{size} cannot be read: it is cut off, damaged, or not a checkpoint of this "
            f"project ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'empty'}){hint}"
        ) from error


def verify(path: Path) -> None:
    """Compares the checksum of each record of a checkpoint, which torch does not. Raises ValueError for a wrong one."""
    if not zipfile.is_zipfile(path):
        return  # the reader says what it is instead: cut off, or of an old format without checksums
    try:
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
    except Exception as error:  # zipfile, zlib and struct have their own for damaged bytes
        raise ValueError(f"its list of records is damaged: {error}") from error
    if record is not None:
        raise ValueError(f"the checksum of its record {record} is wrong")


def readable(path: Path) -> tuple[Path, Any]:
    """A checkpoint and what it holds; the one before it if last.ckpt is damaged or gone, which is said loudly.

    Raises CheckpointError if neither can be read.
    """
    before = path.with_name(PREVIOUS)
    try:
        return path, read_checkpoint(path)
    except CheckpointError as error:
        if path.name != LAST or not before.is_file():
            raise
        content = read_checkpoint(before, hint=f"; nor can {path.name} beside it")
        log.warning(
            "%s\n%s is used instead: the checkpoint before it, of step %s", error, before, content.get("global_step")
        )
        return before, content
