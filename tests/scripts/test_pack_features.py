"""Packing: the same numbers bit for bit, nothing in place before it is right, clear refusals."""

import json
import re
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import packed
from datamodules.errors import DataError
from datamodules.packed import PackedFeatures, pack, packed_path
from scripts import pack_features
from scripts.pack_features import main
from tests.datamodules.moment_retrieval.small import open_set, write_set
from tests.programs import started

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path):
    """Files of 1, 2, ... 7 rows of 5 numbers, one of them .npy."""
    rng = np.random.default_rng(0)
    made = tmp_path / "clip"
    made.mkdir()
    for rows in range(1, 7):
        np.savez(made / f"v{rows}_0.0_2.0.npz", features=rng.standard_normal((rows, 5)).astype(np.float32), other=[1])
    np.save(made / "sound.npy", rng.standard_normal((7, 5)).astype(np.float32))
    (made / "README").write_text("not a feature file")
    return made


def sources(folder, key="features"):
    return {
        path.stem: np.load(path) if path.suffix == ".npy" else np.load(path)[key]
        for path in folder.iterdir()
        if path.suffix in (".npy", ".npz")
    }


def refused(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    assert stop.value.code not in (0, None)
    return str(stop.value.code)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_packed_rows_equal_the_files_bit_for_bit(folder, dtype, capsys):
    for path in folder.glob("*.np?"):
        values = np.load(path) if path.suffix == ".npy" else np.load(path)["features"]
        path.unlink()
        np.savez(path.with_suffix(".npz"), features=values.astype(dtype))
    main([str(folder)])
    assert "7 files, 28 rows of 5 " + dtype in capsys.readouterr().out
    read = PackedFeatures(packed_path(folder))
    assert set(read.ids) == set(sources(folder))
    for name, values in sources(folder).items():
        assert read.read(name).dtype == values.dtype == dtype and read.read(name).tobytes() == values.tobytes()
        assert read.read(name, limit=2).tobytes() == values[:2].tobytes()
    assert np.load(packed_path(folder), mmap_mode="r").shape == (28, 5)


def test_float16_on_request_is_the_rounded_numbers(folder):
    main([str(folder), "--dtype", "float16"])
    read = PackedFeatures(packed_path(folder))
    for name, values in sources(folder).items():
        assert np.array_equal(read.read(name), values.astype(np.float16))


def test_the_datamodule_reads_packed_streams_with_equal_batches(tmp_path):
    folder = write_set(tmp_path / "set")
    torch.manual_seed(0)
    loose = open_set(folder, in_memory=False)
    expected = [batch for split in ("train", "val", "test") for batch in getattr(loose, f"{split}_dataloader")()]
    main([str(folder / "slow"), str(folder / "clip")])
    main([str(folder / "text"), "--key", "last_hidden_state"])
    named = {"slow": {"path": "slow.packed.npy", "dim": 7}, "clip": {"path": "clip.packed.npy", "dim": 5}}
    for away, streams in ((False, {}), (True, {}), (True, {"video_streams": named})):
        if away:  # the packed files alone will do
            for stream in ("slow", "clip", "text"):
                shutil.rmtree(folder / stream, ignore_errors=True)
        for settings in ({"in_memory": False}, {"in_memory": True}, {"in_memory": False, "num_workers": 2}):
            torch.manual_seed(0)
            data = open_set(folder, **streams, **settings)
            assert {type(source).__name__ for source in data.video_sources} == {"PackedStream"}
            found = [batch for split in ("train", "val", "test") for batch in getattr(data, f"{split}_dataloader")()]
            for ours, theirs in zip(found, expected, strict=True):
                assert all(torch.equal(ours[key], theirs[key]) for key in ours if torch.is_tensor(ours[key]))
                assert ours["annotation"] == theirs["annotation"]


def test_a_packed_file_stays_unless_forced(folder, capsys):
    main([str(folder)])
    before = packed_path(folder).read_bytes()
    np.savez(folder / "new.npz", features=np.ones((2, 5), np.float32))
    main([str(folder)])
    assert "--force packs again" in capsys.readouterr().out and packed_path(folder).read_bytes() == before
    main([str(folder), "--force"])
    assert "new" in PackedFeatures(packed_path(folder))


def test_it_runs_as_a_command(folder):
    done = started("-m", "scripts.pack_features", str(folder))
    assert done.returncode == 0 and "read back and equal" in done.stdout
    done = started("-m", "scripts.pack_features", str(folder / "nothing"))
    assert done.returncode == 1 and "not a folder" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda values: values[:, :4], "1 files have another width than the others (5): v3_0.0_2.0.npz (4)"),
        (lambda values: values.astype(np.float16), "another type than the others (float32): v3_0.0_2.0.npz (float16)"),
        (lambda values: values[:0], "v3_0.0_2.0.npz: shape (0, 5), float32; expected"),
        (lambda values: values[0], "v3_0.0_2.0.npz: shape (5,), float32; expected"),
        (lambda values: values.astype(int), "v3_0.0_2.0.npz: shape (3, 5), int64; expected"),
        (lambda values: np.where(values == values[1, 1], np.nan, values), "'v3_0.0_2.0', row 1: not finite"),
    ],
)
def test_files_that_do_not_go_together_are_named_and_nothing_is_left(folder, capsys, change, message):
    path = folder / "v3_0.0_2.0.npz"
    np.savez(path, features=change(np.load(path)["features"]))
    assert message in refused(capsys, folder)
    assert [entry.name for entry in folder.parent.iterdir()] == ["clip"]


def test_numbers_too_large_for_float16_are_refused(folder, capsys):
    np.savez(folder / "v3_0.0_2.0.npz", features=np.full((3, 5), 1e5, np.float32))
    assert "'v3_0.0_2.0', row 0: too large for float16" in refused(capsys, folder, "--dtype", "float16")
    assert [entry.name for entry in folder.parent.iterdir()] == ["clip"]


@pytest.mark.parametrize("keep", [0, 50, -20])
def test_a_truncated_file_is_named(folder, capsys, keep):
    path = folder / "v3_0.0_2.0.npz"
    path.write_bytes(path.read_bytes()[:keep])
    assert f"{path}: cannot be read, probably truncated" in refused(capsys, folder)


def test_a_wrong_key_names_those_that_are_there(folder, capsys):
    message = refused(capsys, folder, "--key", "feature")
    assert "no array 'feature'; it has features, other. Name another with --key" in message


def test_nothing_to_pack_is_said(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert "no .npz or .npy files in it" in refused(capsys, tmp_path / "empty")
    assert "not a folder" in refused(capsys, tmp_path / "absent")


def test_a_full_disk_is_said_before_anything_is_written(folder, capsys, monkeypatch):
    usage = namedtuple("usage", "free")(100)
    monkeypatch.setattr(pack_features.shutil, "disk_usage", lambda place: usage)
    assert "needs 0.00 GB" in refused(capsys, folder)
    assert [entry.name for entry in folder.parent.iterdir()] == ["clip"]


def test_one_name_twice_is_refused(folder, capsys):
    np.save(folder / "v3_0.0_2.0.npy", np.ones((3, 5), np.float32))
    assert "'v3_0.0_2.0' would be packed twice" in refused(capsys, folder)


class Changing:
    """Sources that differ the second time they are read."""

    def __init__(self):
        self.passes = 0

    def __iter__(self):
        self.passes += 1
        yield "a", np.full((2, 3), float(self.passes))


def test_what_is_read_back_differently_is_not_put_in_place(tmp_path):
    with pytest.raises(DataError, match="'a' was read back differently than it was written"):
        pack(Changing(), 2, 3, tmp_path / "x.packed.npy", np.dtype(np.float32), verify=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rows, message", [(3, "2 rows came, 3 were announced"), (1, "1 rows of 3 were announced")])
def test_other_rows_than_announced_are_refused(tmp_path, rows, message):
    with pytest.raises(DataError, match=re.escape(message)):
        pack([("a", np.ones((2, 3)))], rows, 3, tmp_path / "x.packed.npy", np.dtype(np.float32))
    assert not list(tmp_path.iterdir())


def test_a_packing_that_is_stopped_between_its_two_files_leaves_no_stream(folder, monkeypatch):
    """The index comes last: an old index never stands beside new rows."""
    main([str(folder)])
    moved = []

    def replace(self, target):
        if moved:
            raise KeyboardInterrupt
        moved.append(target)
        self.rename(target)

    monkeypatch.setattr(packed.Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        main([str(folder), "--force"])
    monkeypatch.undo()
    assert packed.packed_beside(folder) is None and not list(folder.parent.glob("*.partial"))
    main([str(folder)])
    index = json.loads(packed_path(folder).with_suffix(".json").read_text())
    assert index["shape"] == [28, 5] and len(index["ids"]) == 7
