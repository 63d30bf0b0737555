"""From torchvision's files to shards that the data module reads, on files in torchvision's own format."""

import hashlib
import pickle
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10
from torchvision.datasets import cifar as torchvision_cifar

from datamodules.image_classification import Images
from scripts import prepare_cifar10

NAMES = ["airplane", "automobile", "bird"]
SIZES = {**{f"data_batch_{number}": 6 for number in range(1, 6)}, "test_batch": 9}


@pytest.fixture
def downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict]:
    """A folder as torchvision leaves it, with few images, and what it holds: (pixels, labels) of train and test."""
    pytest.importorskip("pyarrow", reason="shards are read by pyarrow")
    rng, sums, held = np.random.default_rng(0), {}, {"train": ([], []), "test": ([], [])}
    folder = tmp_path / "torchvision" / CIFAR10.base_folder
    folder.mkdir(parents=True)

    def put(name: str, content: dict) -> None:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        sums[name] = hashlib.md5(data).hexdigest()

    for name, count in SIZES.items():
        pixels, labels = rng.integers(0, 256, (count, 3072), dtype=np.uint8), [i % 3 for i in range(count)]
        put(name, {"data": pixels, "labels": labels, "batch_label": name, "filenames": [f"{i}.png" for i in labels]})
        parts = held["test" if name == "test_batch" else "train"]
        parts[0].append(pixels.reshape(-1, 3, 32, 32))
        parts[1].extend(labels)
    put("batches.meta", {"label_names": NAMES, "num_cases_per_batch": 6, "num_vis": 3072})
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in SIZES if name != "test_batch"])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    return folder.parent, {split: (np.concatenate(pixels), labels) for split, (pixels, labels) in held.items()}


def test_shards_hold_every_pixel_and_label_of_the_download(downloaded, tmp_path, capsys, monkeypatch):
    folder, held = downloaded
    monkeypatch.setattr(prepare_cifar10, "GROUP", 7)  # several row groups, the last one short
    prepare_cifar10.main([str(tmp_path / "out"), "--download", str(folder)])
    assert "train-00000-of-00001.parquet: 30 images of 3 classes" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "train-00000-of-00001.parquet", "test-00000-of-00001.parquet"
    }  # fmt: skip
    sizes = {"image_size": 32, "crop_pct": 1.0, "augment": "none", "batch_size": 4, "eval_batch_size": 4}
    data = Images(
        root=str(tmp_path / "out"), format="auto", train="train", test="test", val_split=0, mean=[0, 0, 0],
        std=[1, 1, 1], **sizes,
    )  # fmt: skip
    data.prepare_data()
    assert data.facts()["class_names"] == NAMES and data.facts()["train_counts"] == [10, 10, 10]
    for split, (pixels, labels) in held.items():
        assert torch.equal(data.pictures[split].held, torch.from_numpy(pixels))
        assert data.pictures[split].labels.tolist() == labels


def test_a_missing_network_is_one_line(tmp_path, monkeypatch):
    def offline(*args, **keywords):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torchvision_cifar, "download_and_extract_archive", offline)
    with pytest.raises(SystemExit) as caught:
        prepare_cifar10.main([str(tmp_path / "out")])
    assert "\n" not in str(caught.value) and "Name or service not known" in str(caught.value)
    assert "unpack cifar-10-python.tar.gz there" in str(caught.value)
    assert not list((tmp_path / "out").glob("*.parquet*"))


def test_a_damaged_download_is_one_line_and_leaves_no_shard(downloaded, tmp_path, monkeypatch):
    (downloaded[0] / CIFAR10.base_folder / "data_batch_3").write_bytes(b"cut off")
    monkeypatch.setattr(torchvision_cifar, "download_and_extract_archive", lambda *args, **keywords: None)
    with pytest.raises(SystemExit, match=r"^CIFAR-10 is not in .* could not be downloaded .*\(Dataset not found"):
        prepare_cifar10.main([str(tmp_path / "out"), "--download", str(downloaded[0])])
    assert not list((tmp_path / "out").iterdir())
