"""A small set of moments, and copies of it to damage."""

import shutil
from pathlib import Path

import pytest

from tests.datamodules.moment_retrieval.small import write_set


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """Do not write here."""
    return write_set(tmp_path_factory.mktemp("moments") / "set")


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(pristine, tmp_path / "set"))
