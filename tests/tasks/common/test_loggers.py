"""W&B: offline without a key, never a question, and what is logged can be read back."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from tasks.common.build import build_loggers
from tasks.common.loggers import flat, logged_in, wandb_mode
from tasks.common.results import RunRecord
from tests.offline import records_of
from train import train

KEYS = ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "NETRC")


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user without settings: an empty home, no key, no mode."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for key in KEYS:
        monkeypatch.delenv(key, raising=False)
    return home


@pytest.mark.usefixtures("nobody")
def test_without_a_key_it_is_offline() -> None:
    assert not logged_in()
    assert wandb_mode() == "offline"


def test_with_a_key_it_is_online(nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nobody / ".netrc").write_text("machine api.wandb.ai login user password x\n")
    assert wandb_mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert wandb_mode() == "offline"  # the key is for another server
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert wandb_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode() == "disabled"  # the user's setting decides


def test_settings_are_flattened() -> None:
    assert flat({"mask": {"depth": 3, "x": {}}, "seed": 0}) == {"mask.depth": 3, "mask.x": {}, "seed": 0}


@pytest.mark.slow
@pytest.mark.usefixtures("nobody")
def test_an_offline_run_can_be_read_back(tiny_run: Callable[..., DictConfig]) -> None:
    cfg = tiny_run("logger=many", "seed=5")
    train(cfg)
    (run,) = Path(cfg.paths.run_dir).glob("wandb/offline-run-*")
    text = json.dumps(records_of(run))
    for expected in ("madv2_lcaam-smoke-", "val/loss", "test/loss", "figures/mask_layer_1", "fusion", "commit", "notes",
                     "floors/input_blind/error", "job_type", "predictions/test", "results.json"):  # fmt: skip
        assert expected in text, expected


@pytest.mark.usefixtures("nobody")
def test_a_failing_run_is_finished_and_the_next_has_its_own(
    tiny_run: Callable[..., DictConfig], capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_SILENT", raising=False)
    wandb = pytest.importorskip("wandb")
    failing = tiny_run("logger=many", task={"fail": "error"})
    with pytest.raises(RuntimeError, match="on purpose"):
        train(failing)
    assert wandb.run is None
    following = tiny_run("logger=many", "floors.enabled=false")
    capfd.readouterr()
    train(following)
    assert "anonymous" not in capfd.readouterr().err  # a warning of W&B's at every run
    for cfg in (failing, following):
        assert len(list(Path(cfg.paths.run_dir).glob("wandb/offline-run-*/*.wandb"))) == 1


@pytest.mark.usefixtures("nobody")
def test_a_run_may_have_wandb_switched_off(
    tiny_run: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    cfg = tiny_run("logger=many", "floors.enabled=false")
    train(cfg)
    record = json.loads((Path(cfg.paths.run_dir) / "results.json").read_text())
    assert record["status"] == "completed" and not list(Path(cfg.paths.run_dir).glob("wandb/*run-*"))


@pytest.mark.usefixtures("nobody")
def test_a_group_of_the_users_own_is_kept_and_recorded(tiny_run: Callable[..., DictConfig]) -> None:
    cfg = tiny_run("logger=many", "logger.wandb.group=mine", "seed=5")
    with RunRecord(cfg) as record:
        assert record.wandb["group"] == record.fields["group"] == "mine" and record.wandb["name"] == "mine-s5"
    (logger,) = build_loggers({"wandb": cfg.logger.wandb}, record.wandb)
    assert logger._wandb_init["group"] == "mine" and logger._wandb_init["name"] == "mine-s5"
    plain = RunRecord(tiny_run("logger=csv"))
    assert plain.wandb == {} and plain.fields["wandb"] is None and plain.fields["group"] is None
