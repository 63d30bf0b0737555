"""The input-blind floor: trained once per data configuration, whatever mask, seed or loggers the run has."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.lcaam_sweeps.local_launcher import make_floor
from tasks.common import floors
from tests.tasks.common.tiny import TinyData

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


def test_other_files_under_the_same_settings_are_known_by_the_other_floors(
    tiny_run: TinyRun, trainings: list, caplog: pytest.LogCaptureFixture
) -> None:
    first, other = {"constant": {"error": 1.0, "bleu": None}}, {"constant": {"error": 2.0, "bleu": None}}
    for others in (first, first, None, {"constant": {"error": 1.00001, "bleu": None}}):
        floors.blind_floor(tiny_run(), TinyData(), others)
    assert len(trainings) == 1
    for others in (other, other):
        floors.blind_floor(tiny_run(), TinyData(), others)
    assert len(trainings) == 2
    assert "is of other files of the same name. It is trained again" in caplog.text


@pytest.mark.parametrize(
    "settings",
    [["++trainer.limit_train_batches=1"], ["++trainer.limit_test_batches=1"], ["++trainer.overfit_batches=1"],
     ["++trainer.accumulate_grad_batches=2"], ["trainer.log_every_n_steps=3"], ["++trainer.profiler=simple"]],
)  # fmt: skip
def test_a_debugged_run_gets_the_floor_of_a_whole_one(tiny_run: TinyRun, trainings: list, settings: list) -> None:
    cut = floors.blind_floor(tiny_run(*settings), TinyData())
    whole = floors.blind_floor(tiny_run(), TinyData())
    assert len(trainings) == 1
    assert cut == whole == floors.train_blind(floors.blind_config(tiny_run()), TinyData())


def test_what_changes_a_blind_training_is_in_its_name(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def identity(cfg: DictConfig) -> str:
        return json.dumps(floors.what_it_depends_on(floors.blind_config(cfg)), sort_keys=True)

    def placed(mini: dict | None, root: str) -> DictConfig:
        return tiny_run(data={"mini": mini, "root": root})

    usual = identity(tiny_run())
    assert identity(tiny_run()) == usual
    assert identity(tiny_run("trainer.gradient_clip_val=0.1")) != usual
    assert identity(tiny_run("trainer.precision=bf16-mixed")) != usual
    assert identity(placed({"n": 1}, "a")) == identity(placed({"n": 1}, "b"))  # generated: the same wherever it lies
    assert identity(placed(None, "a")) != identity(placed(None, "b"))  # real data: another root, other files
    before = floors.has_java()
    monkeypatch.setattr(floors, "has_java", lambda: not before)
    assert identity(tiny_run()) != usual


def test_a_kept_floor_is_read_without_a_lock(tiny_run: TinyRun, trainings: list, monkeypatch) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    value = floors.blind_floor(tiny_run(), TinyData())
    monkeypatch.setattr(floors, "FileLock", refused)
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: refused(Path()))
    assert floors.blind_floor(tiny_run(), TinyData()) == value
    assert len(trainings) == 1


def test_a_folder_that_cannot_be_written_costs_a_training_not_the_run(tiny_run: TinyRun, caplog) -> None:
    expected = floors.blind_floor(tiny_run(), TinyData())
    cfg = tiny_run()
    cfg.paths.data_dir = f"{cfg.paths.data_dir}_closed"
    Path(cfg.paths.data_dir).touch()  # a file where the folder should be
    with caplog.at_level(logging.INFO, logger="tasks.common.floors"):
        assert floors.blind_floor(cfg, TinyData()) == expected
    assert "the input-blind floor is trained for this run only" in caplog.text


def test_a_full_disk_loses_the_file_not_the_floor(tiny_run: TinyRun, caplog, monkeypatch) -> None:
    def full(path: Path, value: dict) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(floors, "write_json", full)
    with caplog.at_level(logging.INFO, logger="tasks.common.floors"):
        assert floors.blind_floor(tiny_run(), TinyData()).keys() == {"error", "test_loss", "train_loss"}
    assert "No space left on device" in caplog.text


def test_it_leaves_the_file_that_says_what_it_is_and_nothing_else(tiny_run: TinyRun, capsys) -> None:
    cfg = tiny_run()
    value = floors.blind_floor(cfg, TinyData())
    assert capsys.readouterr().out == ""
    assert not Path(cfg.paths.run_dir).exists()
    (path,) = Path(cfg.paths.data_dir).glob("floors/*.json")
    saved = json.loads(path.read_text())
    assert saved["metrics"] == value
    assert saved["data"] == {"_target_": "tests.tasks.common.tiny.TinyData"}


def test_the_run_s_configuration_is_left_alone(tiny_run: TinyRun) -> None:
    cfg = tiny_run()
    floors.blind_config(cfg)
    assert (cfg.mask.scope, "blind" in cfg.task) == ("shared", False)


def test_a_rank_of_several_trains_no_floor_on_its_own(monkeypatch: pytest.MonkeyPatch, caplog, trainings: list) -> None:
    """The others would not answer, and the run would hang."""

    class Module:
        def reference_scores(self, datamodule):
            return {"constant": {"error": 1.0}}

    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    assert floors.all_floors(None, Module(), TinyData()) == {"constant": {"error": 1.0}}
    assert "runs of one process only" in caplog.text
    assert not trainings


DAMAGED = ["", "{", "[1]", '{"metrics": {}}', '{"metrics": {"error": "1"}}', '{"metrics": 3}', "[" * 100_000]


def test_a_damaged_floor_is_trained_again_and_said(tiny_run: TinyRun, trainings: list, caplog) -> None:
    cfg = tiny_run()
    value = floors.blind_floor(cfg, TinyData())
    (path,) = (Path(cfg.paths.data_dir) / "floors").glob("*.json")
    whole = path.read_text()
    other = whole.replace(str(value["error"])[:4], "9.75", 1)
    assert other != whole
    for text in [*DAMAGED, other]:
        path.write_text(text)
        caplog.clear()
        assert floors.read(path) is None
        assert str(path) in caplog.text and "The floor is trained again." in caplog.text
    assert floors.blind_floor(cfg, TinyData()) == value
    assert len(trainings) == 2
    assert path.read_text() == whole


def test_a_sweep_knows_which_floor_is_still_to_be_trained(tiny_run: TinyRun, trainings: list) -> None:
    cfg = tiny_run("floors.enabled=true", "seed=1")
    path = floors.missing_floor(cfg)
    assert path is not None and not path.exists()
    assert floors.missing_floor(tiny_run("floors.enabled=false")) is None
    assert floors.missing_floor(tiny_run("floors.enabled=true", "trainer.devices=2")) is None  # ranks train none

    floors.blind_floor(cfg, TinyData())
    assert path.is_file() and len(trainings) == 1
    assert floors.missing_floor(cfg) is None


def test_a_sweep_names_a_floor_that_cannot_be_made_and_hides_no_other_error(tiny_run: TinyRun, caplog, monkeypatch):
    def sweep() -> DictConfig:
        return OmegaConf.merge(tiny_run(), {"hydra": {"mode": "MULTIRUN"}})

    def broken(cfg: DictConfig, datamodule: TinyData) -> None:
        raise RuntimeError("on purpose")

    missing = OmegaConf.merge(sweep(), {"data": {"missing": True}})
    with caplog.at_level(logging.WARNING):
        make_floor(missing)
    assert f"no input-blind floor of {missing.name}: DataError: points.h5 is missing" in caplog.text
    monkeypatch.setattr(floors, "blind_floor", broken)
    with pytest.raises(RuntimeError, match="on purpose"):
        make_floor(sweep())
