"""Feature files of all kinds give the same rows: .npz, .npy, .pt, .hdf5, flat and in folders of their own, packed."""

import pickle

import h5py
import numpy as np
import pytest
import torch

from datamodules.errors import DataError
from datamodules.streams import open_stream, stream_settings
from scripts.pack_features import main as pack_features

ROWS = [{"vid": f"v{i}_0.0", "qid": i, "subid": f"s{i}"} for i in range(3)]
VALUES = [np.random.default_rng(i).standard_normal((3 + i, 4)).astype(np.float32) for i in range(3)]


def write_npz(path, values):
    np.savez(path, features=values, other=[1])


def write_pt(path, values):
    torch.save(torch.from_numpy(values), path)


def write_pt_of_a_dict(path, values):
    torch.save({"features": torch.from_numpy(values), "other": torch.ones(1)}, path)


def write_old_pt(path, values):
    torch.save(torch.from_numpy(values), path, _use_new_zipfile_serialization=False)


FILES = {
    "npz": (write_npz, "{vid}.npz"),
    "npy": (np.save, "{vid}.npy"),
    "pt": (write_pt, "{vid}.pt"),
    "pt of a dict": (write_pt_of_a_dict, "{vid}.pt"),
    "pt of an old torch": (write_old_pt, "{vid}.pt"),
    "folders": (write_npz, "{vid}/{subid}.npz"),
}


def folder_of(tmp_path, kind):
    write, pattern = FILES[kind]
    for row, values in zip(ROWS, VALUES, strict=True):
        path = tmp_path / "features" / pattern.format(**row)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, values)
    return stream_settings("features", {"dim": 4, "file": pattern})


def check(stream):
    files = [stream.file_of(row) for row in ROWS]
    assert stream.missing(files) == []
    for row, file, values in zip(ROWS, files, VALUES, strict=True):
        assert stream.rows(file, about="") == len(values)
        for limit in (None, 2, 99):
            found = stream.read(file, about="", limit=limit)
            assert found.dtype == np.float32 and np.array_equal(found, values[:limit]), row
    absent = stream.file_of({"vid": "w", "qid": 9, "subid": "s"})
    assert stream.missing([*files, absent, absent]) == [absent]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", list(FILES))
def test_every_kind_of_file_gives_the_same_rows(tmp_path, kind, packed):
    settings = folder_of(tmp_path, kind)
    if packed:
        pack_features([str(tmp_path / "features")])
    stream = open_stream(tmp_path, "features", settings)
    assert type(stream).__name__ == ("PackedStream" if packed else "FolderStream")
    check(stream)


@pytest.mark.parametrize("grouped", [False, True])
def test_one_hdf5_file_gives_the_same_rows(tmp_path, grouped):
    with h5py.File(tmp_path / "c3d.hdf5", "w") as file:
        for row, values in zip(ROWS, VALUES, strict=True):
            file[f"{row['vid']}/c3d_features" if grouped else row["vid"]] = values
    settings = stream_settings("c3d", {"path": "c3d.hdf5", "dim": 4, "file": "{vid}", "key": "c3d_features"})
    stream = open_stream(tmp_path, "c3d", settings)
    check(stream)
    assert stream.size([row["vid"] for row in ROWS]) == 4 * 4 * sum(map(len, VALUES))
    check(pickle.loads(pickle.dumps(stream)))  # as for a worker


def test_bfloat16_is_read_as_float32(tmp_path):
    torch.save(torch.ones(2, 4, dtype=torch.bfloat16), tmp_path / "v.pt")
    stream = open_stream(
        tmp_path.parent, "f", stream_settings("f", {"path": tmp_path.name, "dim": 4, "file": "{vid}.pt"})
    )
    assert stream.read("v.pt", about="").tolist() == [[1.0] * 4] * 2


class Unsafe:
    def __reduce__(self):
        return (print, ("this must not run",))


@pytest.mark.parametrize(
    "content, message",
    [
        (Unsafe(), "cannot be read"),
        ({"other": torch.ones(2, 4)}, "no tensor 'features'; it has other"),
        ([1, 2], "it holds a list, expected a tensor"),
        (torch.ones(2, 4).to_sparse(), "sparse"),
        (torch.ones(2, 5), r"shape \(2, 5\), expected \(rows, 4\)"),
        (torch.full((2, 4), torch.nan), "not finite"),
    ],
)
def test_a_pt_file_that_cannot_be_used_is_named_and_nothing_of_it_runs(tmp_path, capsys, content, message):
    torch.save(content, tmp_path / "v.pt")
    stream = open_stream(
        tmp_path.parent, "f", stream_settings("f", {"path": tmp_path.name, "dim": 4, "file": "{vid}.pt"})
    )
    with pytest.raises(DataError, match=message) as stop:
        stream.read("v.pt", about="vid v")
    assert "v.pt" in str(stop.value) and "must not run" not in capsys.readouterr().out


def test_a_truncated_pt_file_is_named(tmp_path):
    settings = folder_of(tmp_path, "pt")
    path = tmp_path / "features" / "v1_0.0.pt"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="v1_0.0.pt .vid x.: cannot be read, probably truncated"):
        open_stream(tmp_path, "features", settings).read("v1_0.0.pt", about="vid x")


def hdf5_stream(tmp_path, write):
    with h5py.File(tmp_path / "c.h5", "w") as file:
        write(file)
    return open_stream(tmp_path, "c", stream_settings("c", {"path": "c.h5", "dim": 4, "file": "{vid}", "key": "k"}))


@pytest.mark.parametrize(
    "write, message",
    [
        (
            lambda file: file.create_group("v").create_dataset("other", data=VALUES[0]),
            "no dataset 'k' in it; it has other",
        ),
        (
            lambda file: file.__setitem__("v", h5py.ExternalLink("elsewhere.h5", "/v")),
            "a link, perhaps to another file",
        ),
        (lambda file: file.__setitem__("v", VALUES[0][:, :3]), r"shape \(3, 3\), expected \(rows, 4\)"),
        (lambda file: file.__setitem__("v", 3.0), r"shape \(\), expected"),
    ],
)
def test_an_hdf5_dataset_that_cannot_be_used_is_named(tmp_path, write, message):
    with pytest.raises(DataError, match=message) as stop:
        hdf5_stream(tmp_path, write).read("v", about="vid v")
    assert "c.h5, 'v' (vid v)" in str(stop.value)


def test_an_hdf5_file_that_is_none_or_absent_is_named(tmp_path):
    settings = stream_settings("c", {"path": "c.h5", "dim": 4, "file": "{vid}"})
    with pytest.raises(DataError, match=r"c\.h5: cannot be opened as HDF5"):
        open_stream(tmp_path, "c", settings)
    (tmp_path / "c.h5").write_bytes(b"text")
    with pytest.raises(DataError, match=r"c\.h5: cannot be opened as HDF5"):
        open_stream(tmp_path, "c", settings)


def test_a_key_of_the_file_name_that_a_row_lacks_is_named(tmp_path):
    stream = open_stream(tmp_path, "features", folder_of(tmp_path, "folders"))
    with pytest.raises(DataError, match=r"files are named .*, but qid 1, vid v has no subid"):
        stream.file_of({"vid": "v", "qid": 1})
    with pytest.raises(DataError, match="has a path separator"):
        stream.file_of({"vid": "v", "qid": 1, "subid": "../x"})
