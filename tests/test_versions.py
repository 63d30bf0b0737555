"""The lock holds what pyproject.toml asks for, on every Python that it is made for; docs/versions.md says the same."""

import re
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts import versions
from tests.programs import ROOT

LOCK = versions.locked()


@pytest.mark.parametrize("python", versions.PYTHONS)
def test_every_dependency_is_locked_within_its_bounds(python):
    chosen = versions.chosen(LOCK, python)
    for name, requirement in versions.direct().items():
        assert name in chosen, f"{name} is not locked for Python {python}: make lock"
        assert requirement.specifier.contains(chosen[name]), f"locked {name} {chosen[name]}, wanted {requirement}"


@pytest.mark.parametrize("python", versions.PYTHONS)
def test_a_package_has_one_locked_version_on_one_python(python):
    lines = [line for line in LOCK if versions.applies(line.marker, versions.linux(python))]
    names = [canonicalize_name(line.name) for line in lines]
    assert sorted(names) == sorted(set(names))


def test_torch_and_torchvision_are_the_pair_that_is_held():
    held = {line.name: versions.version_of(line) for line in versions.locked(ROOT / "requirements" / "held.txt")}
    assert held.keys() == {"torch", "torchvision"}
    for python in versions.PYTHONS:
        assert held.items() <= versions.chosen(LOCK, python).items()


def test_what_locked_packages_need_is_locked_too():
    """Read from what is installed here, as far as it is what the lock says."""
    chosen = versions.chosen(LOCK, "{}.{}".format(*sys.version_info))
    for name, version in chosen.items():
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if found.version.partition("+")[0] != version:
            continue
        for need in map(Requirement, found.requires or ()):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert canonicalize_name(need.name) in chosen, f"{name} needs {need}, which is not locked: make lock"


def test_every_dependency_states_the_lowest_version_that_was_tried():
    for requirement in versions.direct().values():
        assert versions.lowest(requirement)


def test_the_page_of_versions_says_what_pyproject_and_the_lock_say():
    page, _, _ = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8").partition("## What was run")
    table = re.findall(r"^\| ([\w.-]+) \| ([\w.]+) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    stated = {name: (low, locked) for name, low, locked, _ in table if name != "package"}
    assert stated == {name: (low, locked) for name, low, locked, _ in versions.rows()}


def test_the_hook_before_a_commit_is_the_locked_ruff():
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (found,) = re.findall(r"ruff-pre-commit\n\s+rev: v([\d.]+)$", text, re.MULTILINE)
    assert {found} == {versions.chosen(LOCK, python)["ruff"] for python in versions.PYTHONS}


def test_messages_that_say_what_to_install_state_the_lowest_version():
    hints = [
        (file.name, *hint)
        for file in (ROOT / "lcaam").rglob("*.py")
        for hint in re.findall(r"pip install '([\w-]+)>=([\d.]+)'", file.read_text(encoding="utf-8"))
    ]
    assert len(hints) >= 2, "those of the integrations"
    for file, name, version in hints:
        assert version == versions.lowest(versions.direct()[canonicalize_name(name)]), file
