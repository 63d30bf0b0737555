"""A browser for the tests of pages, and runs for those of tables."""

import os
import shutil
from collections.abc import Iterator

import pytest

from scripts.table.expected import expected_rows
from tests.scripts.shelf import Shelf

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=path, chromium_sandbox=os.geteuid() != 0)
        yield found
        found.close()


@pytest.fixture(scope="module")
def composed_rows():
    """The rows of table1a at scale smoke, composed once."""
    return expected_rows("table1a", Shelf.given)


@pytest.fixture
def shelf(composed_rows, tmp_path):
    """A folder of runs of table1a."""
    return Shelf(tmp_path, composed_rows)
