"""A small image folder, and copies of it to damage."""

import shutil
from pathlib import Path

import pytest

from tests.datamodules.image_classification.small import write_images


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """Three classes; do not write here."""
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(pristine, tmp_path / "copy"))
