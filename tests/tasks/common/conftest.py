"""Runs of the tiny task through the real frame."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from omegaconf import DictConfig

from configs import targets
from tests.tasks.common.tiny import tiny_config


@pytest.fixture(autouse=True, scope="session")
def _tiny_is_allowed() -> Iterator[None]:
    """The tiny task and data live outside the packages whose targets a configuration may name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "PACKAGES", (*targets.PACKAGES, "tests"))
        yield


@pytest.fixture
def tiny_run(tmp_path: Path) -> Callable[..., DictConfig]:
    """`tiny_run("seed=1", task={"fail": "nan"})`: see tests.tasks.common.tiny.tiny_config; writes under tmp_path."""
    return partial(tiny_config, tmp_path)
