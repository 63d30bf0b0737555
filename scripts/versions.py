"""Each direct dependency: the lowest version that pyproject.toml allows, the locked one, the one in this environment.

python -m scripts.versions    # make test-newest and make test-lowest print it before they test; docs/versions.md
"""

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements" / "lab.txt"
UNLOCKED = ("slurm", "optuna")  # plugins of Hydra that hold other packages at old versions
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")  # the versions that the lock is made for


def direct() -> dict[str, Requirement]:
    """The dependencies of the library, then of every locked extra, by normalised name, each with a lowest version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [lines for name, lines in project["optional-dependencies"].items() if name not in UNLOCKED]
    found = (Requirement(line) for lines in (project["dependencies"], *extras) for line in lines)
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def lowest(requirement: Requirement) -> str:
    """The version after its >=. Raises ValueError if there is none."""
    for bound in requirement.specifier:
        if bound.operator == ">=":
            return bound.version
    raise ValueError(f"pyproject.toml: {requirement} has no lower bound")


def locked(path: Path = LOCK) -> list[Requirement]:
    """Every line `name==version ; marker` of the lock."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def version_of(requirement: Requirement) -> str:
    """`1.2` of a locked `name==1.2`."""
    (pin,) = requirement.specifier
    return pin.version


def linux(python: str) -> dict[str, str]:
    """What markers see on 64-bit Linux under a version of Python."""
    system = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"}
    return system | {"python_version": python, "python_full_version": f"{python}.0"}


def chosen(lock: list[Requirement], python: str) -> dict[str, str]:
    """What the lock installs under a version of Python on 64-bit Linux, by normalised name."""
    return {canonicalize_name(line.name): version_of(line) for line in lock if applies(line.marker, linux(python))}


def applies(marker: Marker | None, environment: dict[str, str]) -> bool:
    return marker is None or marker.evaluate(default_environment() | environment)


def rows() -> Iterator[tuple[str, str, str, str]]:
    """package, lowest, locked (for the newest Python; in brackets for the oldest if it differs), installed."""
    lock = locked()
    old, new = chosen(lock, PYTHONS[0]), chosen(lock, PYTHONS[-1])
    for name, requirement in direct().items():
        both = new[name] if old[name] == new[name] else f"{new[name]} ({old[name]})"
        try:
            here = metadata.version(name)
        except metadata.PackageNotFoundError:
            here = "-"
        yield name, lowest(requirement), both, here


def main() -> None:
    print(f"Python {sys.version.split()[0]}\n| package | lowest | locked | installed |\n|---|---|---|---|")
    for row in rows():
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
