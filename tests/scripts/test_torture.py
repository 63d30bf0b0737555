"""A part of `python -m scripts.torture`: runs are killed at random points and resumed to the very same results."""

from pathlib import Path

import pytest

from scripts.torture.page import data_of
from scripts.torture.resume import TASKS, VARIANTS, cell, warm
from tests.programs import started


def test_a_killed_run_that_is_resumed_is_the_unbroken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, killed once while it trains; the other tasks, variants and points are in the slow tier."""
    monkeypatch.setattr("scripts.torture.resume.KINDS", ("train",))
    warm(tmp_path, "moment_retrieval")
    row = cell(tmp_path, "moment_retrieval", "dropout", kills=1, seed=1)
    assert (row["equal"], row["problems"], row["killed"]) == (1, [], {"train": 1})


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("task", TASKS)
def test_the_command_finds_every_task_and_variant_equal(tmp_path: Path, task: str, variant: str) -> None:
    options = ("--kills", "4", "--tasks", task, "--variants", variant, "--keep", str(tmp_path / "runs"))
    done = started("-m", "scripts.torture", "resume", *options, "--out", str(tmp_path / "page.md"), timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 equal" in done.stdout
    assert "4 of 4 |" in (tmp_path / "page.md").read_text()
    assert data_of(tmp_path / "page.md", "resume").is_file()
