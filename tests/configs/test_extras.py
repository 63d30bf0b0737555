"""A choice whose package is not installed says what to install, before anything is imported."""

import re

import pytest

from configs import extras
from configs.extras import missing_extra
from scripts.versions import ROOT
from tests.programs import started


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("hydra/launcher=submitit_slurm", "pip install -e '.[lab,slurm]'"),
        ("hydra/launcher=submitit_local", "pip install -e '.[lab,slurm]'"),
        ("hydra/sweeper=optuna", "pip install -e '.[lab,optuna]'"),
        ("sweep=search", "pip install -e '.[lab,optuna]'"),
        ("hydra/launcher=ray", "pip install hydra-ray-launcher"),
        ("hydra/launcher=joblib", "hydra/launcher=local does the same"),
    ],
)
def test_a_choice_that_is_not_installed_names_its_extra(argument: str, hint: str, monkeypatch) -> None:
    monkeypatch.setattr(extras, "installed", lambda module: False)
    told = missing_extra(["experiment=madv2_lcaam", argument])
    assert told.startswith(f"{argument} needs a package that is not installed: ")
    assert hint in told


def test_what_is_installed_or_needs_nothing_is_no_problem(monkeypatch) -> None:
    assert missing_extra(["-m", "hydra/launcher=local", "sweep=table1a"]) is None
    monkeypatch.setattr(extras, "installed", lambda module: True)
    assert missing_extra([*extras.EXTRAS]) is None


def test_the_extras_are_those_of_the_project() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for module, extra in extras.EXTRAS.values():
        package = module.rpartition(".")[2].replace("_", "-")
        assert not extra or re.search(rf'^{extra} = \[[^\]]*"{package}>=', text, re.MULTILINE), package


def test_a_missing_launcher_is_one_line_without_a_trace() -> None:
    if missing_extra(["hydra/launcher=ray"]) is None:
        pytest.skip("hydra-ray-launcher is installed")
    done = started("train.py", "-m", "hydra/launcher=ray", "seed=0,1")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [missing_extra(["hydra/launcher=ray"])]
