"""What a run says of the code that made it."""

import subprocess
from pathlib import Path

import pytest

from tasks.common import environment


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("docs/results/runs.csv", "lcaam/mask.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a\n")
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for words in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "all")):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("changed", "dirty"),
    [(None, False), ("docs/results/runs.csv", False), ("lcaam/mask.py", True), ("lcaam/new.py", False)],
)
def test_code_with_changes_is_told_from_tables_that_were_written(
    checkout: Path, changed: str | None, dirty: bool
) -> None:
    if changed is not None:
        (checkout / changed).write_text("b\n")
    state = environment.git_state()
    assert state["dirty"] is dirty and len(state["commit"]) == 40


def test_outside_of_a_checkout_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment.git_state() == {"commit": None, "dirty": None}
