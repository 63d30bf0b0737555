"""What every test gets: one thread, nothing online, and a way to compose a run that writes into the test's folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig

from tests.composing import composed

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files beside this one first: they run whole programs, and the longest should not begin last."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches W&B or a model hub, whatever this machine is logged in to."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the processes that tests start


@pytest.fixture
def compose_run(tmp_path: Path) -> Callable[..., DictConfig]:
    """`compose_run("experiment=madv2_lcaam", "scale=mini")`: a configuration with outputs and data under tmp_path."""
    return lambda *overrides: composed(tmp_path, *overrides)
