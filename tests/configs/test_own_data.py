"""A data set of the user's own keeps its files' names at scale=mini, which is about generated files."""

import pytest
from omegaconf import OmegaConf

from configs.composing import composed
from tests.programs import ROOT

HOW_IT_IS_READ = {"augment", "batch_size", "eval_batch_size", "image_size", "normalise", "num_workers", "seed", "shift"}
EXPERIMENTS = {"cifar10": "cifar10_baseline", "image_folder": "image_folder_baseline", "movies": "madv2_baseline"}
OWN = sorted(
    path.stem
    for path in (ROOT / "configs/scale/data/mini").glob("*.yaml")
    if "mini: null" in path.read_text(encoding="utf-8")
)


def read_by(name: str, scale: str) -> dict:
    experiment = EXPERIMENTS.get(name, "clip_moments_baseline")
    config = composed(f"experiment={experiment}", f"data={name}", f"scale={scale}")
    return OmegaConf.to_container(config.data, resolve=False)


def test_there_are_such_data_sets() -> None:
    assert {"clip_moments", "image_folder", "movies"} <= set(OWN)


@pytest.mark.parametrize("name", OWN)
def test_at_mini_the_same_files_are_read_as_at_the_papers_scale(name: str) -> None:
    paper, mini = read_by(name, "paper"), read_by(name, "mini")
    changed = {key for key in paper.keys() | mini.keys() if paper.get(key) != mini.get(key)}
    assert changed <= HOW_IT_IS_READ
