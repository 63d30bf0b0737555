"""A part of `python -m scripts.torture`: runs are killed at random points and resumed to the very same results."""

from pathlib import Path

import pytest

from scripts.torture.resume import TASKS, VARIANTS
from tests.programs import started
from tests.tiers import slow

CASES = [(task, variant) for task in TASKS for variant in VARIANTS]
QUICK = ("moment_retrieval", "dropout")


@pytest.mark.parametrize(("task", "variant"), [case if case == QUICK else slow(*case) for case in CASES])
def test_a_killed_run_that_is_resumed_is_the_unbroken_one(tmp_path: Path, task: str, variant: str) -> None:
    kills = "2" if (task, variant) == QUICK else "4"
    options = ("--kills", kills, "--tasks", task, "--variants", variant, "--keep", str(tmp_path / "runs"))
    done = started("-m", "scripts.torture", "resume", *options, "--out", str(tmp_path / "page.md"), timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{kills} of {kills} equal" in done.stdout
    assert f"{kills} of {kills} |" in (tmp_path / "page.md").read_text()
