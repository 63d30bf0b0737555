"""CIFAR-10's own files train with a path and nothing else, as shards and as folders."""

import json
from pathlib import Path

import pytest

from configs.composing import composed
from datamodules.image_classification import Images
from tests.programs import ROOT
from tests.tiers import slow
from train import train

SHARDS = ROOT.parent / "shared" / "cifar10"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

pytestmark = pytest.mark.skipif(not SHARDS.is_dir(), reason=f"{SHARDS} is not there: CIFAR-10 is not distributed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Twenty images of each class, and ten for the test, as image folders."""
    pytest.importorskip("pyarrow")
    root = tmp_path_factory.mktemp("cifar10")
    data = Images(root=str(SHARDS), format="auto", train="train", test="test", val_split=0, image_size=32, batch_size=8,
                  eval_batch_size=8, in_memory=False, overlap="allow")  # fmt: skip
    data.setup()
    for split, count in (("train", 20), ("test", 10)):
        pictures = data.pictures[split]
        for label, name in enumerate(data.facts()["class_names"]):
            (root / split / name).mkdir(parents=True)
            for index in (pictures.labels == label).nonzero().flatten()[:count].tolist():
                (root / split / name / f"{index}.jpg").write_bytes(pictures.source.read(index))
    return root


@pytest.mark.parametrize(
    ("experiment", "of_shards"),
    [("cifar10_lcaam", False), *(slow(f"cifar10_{name}", True) for name in ("baseline", "lcaam", "multi_lcaam"))],
)
def test_no_setting_but_the_path_is_needed(folder, tmp_path, experiment, of_shards):
    root = SHARDS if of_shards else folder
    cfg = composed(f"experiment={experiment}", "scale=smoke", f"data.root={root}", f"paths.log_dir={tmp_path}")
    train(cfg)
    record = json.loads((Path(cfg.paths.run_dir) / "results.json").read_text())
    assert record["status"] == "completed" and "top1" in record["floors"]["input_blind"]
    assert [each["class"] for each in record["details"]["classes"]] == CLASSES
    assert sum(each["images"] for each in record["details"]["classes"]) == (10_000 if of_shards else 100)
