"""A small mini set, written once per session, and copies of it to damage."""

import shutil
from pathlib import Path

import pytest

from datamodules.audio_description import Descriptions
from tests.datamodules.audio_description.small import KEYWORDS, generate


@pytest.fixture(scope="session")
def pristine(tmp_path_factory) -> Path:
    """The files of a small mini set; do not write here."""
    return generate(tmp_path_factory.mktemp("mini"))


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    """A copy of the files that a test may damage; for the datamodule they are a real data set."""
    return Path(shutil.copytree(pristine, tmp_path / "madv2"))


@pytest.fixture
def open_data(folder):
    """The datamodule on `folder`, read as real data; keywords replace the usual ones."""

    def build(**changes) -> Descriptions:
        data = Descriptions(**{**KEYWORDS, "root": str(folder), **changes})
        data.prepare_data()
        data.setup()
        return data

    return build
