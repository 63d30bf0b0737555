"""What every test gets: one thread, nothing online, and a way to compose a run that writes into the test's folder."""

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels run on the CPU; read when Triton is imported

from tests import programs  # noqa: F401  before any code under test starts the server of processes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files beside this one first: they run whole programs, and the longest should not begin last."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


def pytest_collection() -> None:
    """The collector would walk what the libraries define again and again while they are imported: 8 s."""
    gc.disable()


def pytest_collection_finish() -> None:
    """What is there by now stays to the end, so the collector need not look at it again."""
    import torch

    gc.freeze()
    gc.enable()
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches W&B or a model hub, whatever this machine is logged in to."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the processes that tests start


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the generated data sets that tests only read: each is written once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def compose_run(tmp_path: Path, generated: Path) -> Callable[..., DictConfig]:
    """`compose_run("experiment=madv2_lcaam", "scale=mini")`: a configuration with outputs under tmp_path.

    A test that changes data files adds a `paths.data_dir` of its own.
    """
    from tests.composing import composed  # imports the libraries, so not before the tests are collected

    return lambda *overrides: composed(tmp_path, *overrides, data=generated)
