"""Checkpoint files: whole or absent, verified, with a predecessor; a full disk is one line."""

import os
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from scripts.torture.checkpoints import kills
from tasks.common.checkpoint_files import LAST, PREVIOUS, bring, clean, read_checkpoint, readable, write_checkpoint
from tasks.common.errors import CheckpointError, StorageError
from tasks.common.files import write_text


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Files cannot grow beyond `size` bytes: what a full disk is like, without one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def content(step: int) -> dict:
    return {"global_step": step, "weights": torch.full((5000,), float(step))}


def written(folder: Path, steps: int = 2) -> Path:
    for step in range(1, steps + 1):
        write_checkpoint(content(step), folder / LAST)
    return folder / LAST


def test_the_one_before_is_kept_and_nothing_else(tmp_path: Path) -> None:
    path = written(tmp_path, 3)
    assert sorted(file.name for file in tmp_path.iterdir()) == [LAST, PREVIOUS]
    assert [read_checkpoint(tmp_path / name)["global_step"] for name in (LAST, PREVIOUS)] == [3, 2]
    write_checkpoint(content(4), tmp_path / "best.ckpt")
    write_checkpoint(content(5), tmp_path / "best.ckpt")
    assert len(list(tmp_path.iterdir())) == 3 and read_checkpoint(path)["global_step"] == 3


def test_a_full_disk_leaves_the_last_one_and_says_where(tmp_path: Path) -> None:
    path = written(tmp_path)
    with largest_file(9000), pytest.raises(StorageError) as raised:
        write_checkpoint(content(3), path)
    (line,) = str(raised.value).splitlines()
    for words in (str(path), "File too large", "bytes are free on the file system of", "mounted at", "is whole"):
        assert words in line
    assert sorted(file.name for file in tmp_path.iterdir()) == [LAST, PREVIOUS]
    assert read_checkpoint(path)["global_step"] == 2


def test_a_text_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    write_text(tmp_path / "results.json", "old")
    with largest_file(100), pytest.raises(StorageError, match=r"results.json cannot be written: File too large"):
        write_text(tmp_path / "results.json", "x" * 200)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file/last.ckpt cannot be written: "):
        write_checkpoint(content(1), tmp_path / "file" / LAST)


def damage(path: Path, kind: str) -> None:
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        tensor = max((i for i in archive.infolist() if "/data/" in i.filename), key=lambda i: i.file_size)
    at = tensor.header_offset
    start = at + 30 + sum(int.from_bytes(data[k : k + 2], "little") for k in (at + 26, at + 28))
    if kind == "bit":
        data[start + tensor.file_size // 2] ^= 4
    elif kind == "zeroed":
        data[start : start + tensor.file_size] = bytes(tensor.file_size)
    elif kind == "cut":
        del data[len(data) * 2 // 3 :]
    elif kind == "empty":
        data = bytearray()
    path.unlink()  # the one before may be a link
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["bit", "zeroed", "cut", "empty"])
def test_a_damaged_one_is_refused_and_the_one_before_is_used_loudly(tmp_path: Path, caplog, kind: str) -> None:
    path = written(tmp_path)
    damage(path, kind)
    with pytest.raises(CheckpointError, match=r"last.ckpt \([\d,]+ bytes\) cannot be read: it is cut off, damaged"):
        read_checkpoint(path)
    found, values = readable(path)
    assert (found, values["global_step"]) == (tmp_path / PREVIOUS, 1)
    assert "last.previous.ckpt is used instead: the checkpoint before it, of step 1" in caplog.text
    damage(tmp_path / PREVIOUS, kind)
    with pytest.raises(CheckpointError, match="nor can last.ckpt beside it"):
        readable(path)


def test_a_run_that_is_killed_between_two_names_goes_on_with_the_one_before(tmp_path: Path) -> None:
    written(tmp_path).unlink()
    assert readable(tmp_path / LAST)[1]["global_step"] == 1


def test_every_bit_of_a_small_checkpoint_is_guarded(tmp_path: Path) -> None:
    """A flipped bit is refused, or changes nothing: some bytes only fill up or repeat what stands elsewhere."""
    path = tmp_path / "small.ckpt"
    write_checkpoint({"global_step": 3, "weights": torch.arange(7.0)}, path)
    good = path.read_bytes()
    refused = 0
    for at in range(0, len(good), 7):
        path.write_bytes(good[:at] + bytes([good[at] ^ 16]) + good[at + 1 :])
        try:
            found = read_checkpoint(path, "cpu")
        except CheckpointError:
            refused += 1
        else:
            assert found["global_step"] == 3 and torch.equal(found["weights"], torch.arange(7.0))
    assert refused > 20


def test_only_drafts_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    mine, dead = tmp_path / f".{LAST}.{os.getpid()}", tmp_path / f".{LAST}.{2**22 + 1}"
    mine.touch()
    dead.touch()
    clean(tmp_path)
    assert list(tmp_path.iterdir()) == [mine]


def test_a_brought_file_survives_the_first_and_is_not_written_through(tmp_path: Path) -> None:
    path = written(tmp_path / "a", 1)
    bring(path, tmp_path / "b" / LAST)
    write_checkpoint(content(9), tmp_path / "b" / LAST)
    assert read_checkpoint(path)["global_step"] == 1
    path.unlink()
    assert read_checkpoint(tmp_path / "b" / PREVIOUS)["global_step"] == 1


def test_kills_amid_writing_leave_a_readable_checkpoint(tmp_path: Path) -> None:
    folders = tmp_path / "run", tmp_path / "tmp"
    for folder in folders:
        folder.mkdir()
    found = kills(*folders, count=4, seed=1)
    assert (found["unreadable"], found["older than before"], found["left over"]) == (0, 0, 0)
