"""docs/extending.md: the task that it spells out trains and is recorded, and no file of the project changes for it."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.programs import ROOT, started

FILE = re.compile(r"^`([\w/]+\.(?:py|yaml))`:\n\n```(?:python|yaml)\n(.*?)```$", re.DOTALL | re.MULTILINE)
TREE = ("configs", "datamodules", "lcaam", "tasks", "train.py", "eval.py")


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return dict(FILE.findall((ROOT / "docs" / "extending.md").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def copy(files, tmp_path_factory) -> Path:
    """The project with the page's files added."""
    folder = tmp_path_factory.mktemp("project")
    for name in TREE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("local"))
        else:
            shutil.copy(ROOT / name, folder / name)
    for name, text in files.items():
        path = folder / name
        assert not path.exists(), f"{name} is a file of the project: the page changes it"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_every_file_of_the_page_is_new(files) -> None:
    assert len(files) == 8
    assert not [name for name in files if (ROOT / name).exists()]


def trained(copy: Path, mask: str) -> dict:
    """The record of a run of the page's task."""
    arguments = ("experiment=marked_number_lcaam", "scale=smoke", f"mask={mask}", "paths.log_dir=logs")
    done = started("train.py", *arguments, f"paths.run_dir=logs/{mask}", "paths.data_dir=data", folder=copy)
    assert done.returncode == 0, done.stderr
    return json.loads((copy / "logs" / mask / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def with_masks(copy: Path) -> dict:
    return trained(copy, "lcaam")


def test_the_task_of_the_page_runs_and_is_recorded(copy: Path, with_masks: dict) -> None:
    assert with_masks["status"] == "completed"
    assert with_masks["metrics"].keys() == {"error", "test_loss", "train_loss"}
    assert with_masks["floors"].keys() == {"constant", "input_blind"}
    assert with_masks["flops"] > 0
    assert with_masks["parameters"]["masks"] > 0 and with_masks["parameters"]["controls"] == 0
    assert with_masks["checkpoints"] == {"last": "checkpoints/last.ckpt", "best": "checkpoints/best.ckpt"}
    assert len((copy / "logs" / "lcaam" / "predictions" / "test.jsonl").read_text().splitlines()) == 64


def test_a_control_takes_the_place_of_its_masks(copy: Path, with_masks: dict) -> None:
    parameters = trained(copy, "extra_linear")["parameters"]
    assert parameters["masks"] == 0 and parameters["controls"] > 0
    assert parameters["model"] == with_masks["parameters"]["model"]


def test_its_settings_are_checked_like_all_others(copy: Path) -> None:
    wrong = {
        "task.lr=0": "task.lr: 0 is out of range; allowed: a finite number above 0",
        "data.length=0": "data.length: 0 is out of range; allowed: at least 1",
    }
    misspelt = {"task.widht=8": "task.widht: unknown key; did you mean 'width'?"}  # told before anything is imported
    for settings in (wrong, misspelt):
        done = started("train.py", "experiment=marked_number_lcaam", "scale=smoke", *settings, folder=copy)
        assert done.returncode != 0
        assert [message for message in settings.values() if message not in done.stderr] == []


def test_eval_refuses_what_its_weights_were_made_for(copy: Path, with_masks: dict) -> None:
    done = started("eval.py", "run=logs/lcaam", "data.length=4", folder=copy)
    assert "data.length: 4: the run was trained with 8" in done.stderr
