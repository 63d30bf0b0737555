"""Copies of a file's small captioned videos, `pristine`, to damage."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(pristine, tmp_path / "copy"))
