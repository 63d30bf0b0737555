"""The input-blind floor: trained once per data configuration, whatever mask, seed or loggers the run has."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tasks.common import floors
from tests.common.tiny import TinyData

TinyRun = Callable[..., DictConfig]


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[DictConfig]:
    """The configurations that were really trained."""
    seen: list[DictConfig] = []
    real = floors.train_blind

    def counted(cfg: DictConfig, datamodule: TinyData) -> dict[str, float]:
        seen.append(cfg)
        return real(cfg, datamodule)

    monkeypatch.setattr(floors, "train_blind", counted)
    return seen


def test_it_is_trained_once_for_all_masks_and_seeds(tiny_run: TinyRun, trainings: list) -> None:
    runs = [tiny_run(), tiny_run("seed=3"), tiny_run("mask=multi_lcaam", "mask.depth=2"), tiny_run("logger=many")]
    values = [floors.blind_floor(cfg, TinyData()) for cfg in runs]
    assert len(trainings) == 1
    assert all(value == values[0] for value in values)
    blind = trainings[0]
    assert (blind.task.blind, blind.mask.scope, blind.seed, blind.logger) == (True, "none", 0, None)


def test_other_data_another_task_or_other_steps_are_trained_again(tiny_run: TinyRun, trainings: list) -> None:
    for cfg in (
        tiny_run(),
        tiny_run(data={"seed": 1}),
        tiny_run(task={"lr": 0.01}),
        tiny_run(max_steps=9),
        tiny_run("floors.max_steps=2"),
    ):
        floors.blind_floor(cfg, TinyData())
    assert len(trainings) == 5
    assert trainings[-1].trainer.max_steps == 2


def test_it_leaves_the_file_that_says_what_it_is_and_nothing_else(tiny_run: TinyRun, capsys) -> None:
    cfg = tiny_run()
    value = floors.blind_floor(cfg, TinyData())
    assert capsys.readouterr().out == ""
    assert not Path(cfg.paths.run_dir).exists()
    (path,) = Path(cfg.paths.data_dir).glob("floors/*.json")
    saved = json.loads(path.read_text())
    assert saved["metrics"] == value
    assert saved["data"] == {"_target_": "tests.common.tiny.TinyData"}


def test_the_run_s_configuration_is_left_alone(tiny_run: TinyRun) -> None:
    cfg = tiny_run()
    floors.blind_config(cfg)
    assert (cfg.mask.scope, "blind" in cfg.task) == ("shared", False)
