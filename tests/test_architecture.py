"""The project's structure: direction of imports, size of files, and one name per task through the whole tree."""

import ast
import statistics
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("lcaam", "configs", "datamodules", "tasks", "scripts", "hydra_plugins")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TASKS = ("audio_description", "moment_retrieval", "image_classification", "video_captioning", "language_model")
LONGEST, MEDIAN = 350, 110  # lines
FORBIDDEN = {  # importer -> what it may not import
    "lcaam": ("configs", "datamodules", "tasks", "scripts"),
    "configs": ("datamodules", "tasks", "scripts"),
    "datamodules": ("tasks", "scripts"),
    "tasks": ("scripts",),
}


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_of(path): path for path in SOURCES}


def imports(path: Path, whole: bool = True) -> set[str]:
    """The project's modules that a file imports; whole: inside functions too, else only when it is loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements = list(ast.walk(tree)) if whole else tree.body
    found = set()
    for node in statements:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                full if (full := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
    return {name for name in found if name in MODULES}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package: str) -> None:
    wrong = {
        f"{name} -> {found}"
        for name, path in MODULES.items()
        if name.split(".")[0] == package
        for found in imports(path)
        if found.split(".")[0] in FORBIDDEN[package]
    }
    assert not wrong


def test_no_imports_run_in_a_circle() -> None:
    """A package's __init__.py imports its modules; that is not a circle as long as they do not import the package."""
    arrows = {name: imports(path, whole=False) for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for found in arrows[name]:
                visit(found, (*trail, name))
            done.add(name)

    for name in arrows:
        visit(name, ())


def test_no_data_set_imports_another() -> None:
    wrong = {
        f"{name} -> {found}"
        for name, path in MODULES.items()
        for found in imports(path)
        if name.startswith("datamodules.") and found.startswith("datamodules.")
        and name.split(".")[1] in TASKS and found.split(".")[1] in TASKS and name.split(".")[1] != found.split(".")[1]
    }  # fmt: skip
    assert not wrong


def test_no_task_imports_another() -> None:
    wrong = {
        f"{name} -> {found}"
        for name, path in MODULES.items()
        for found in imports(path)
        if name.split(".")[0] == found.split(".")[0] == "tasks"
        and name.split(".")[1] in TASKS and found.split(".")[1] in TASKS and name.split(".")[1] != found.split(".")[1]
    }  # fmt: skip
    assert not wrong


def test_shared_code_knows_no_task_by_name() -> None:
    """Everything that several tasks share asks their classes."""
    wrong = {
        f"{name} -> {found}"
        for name, path in MODULES.items()
        if not set(TASKS) & set(name.split(".")) and not name.startswith("scripts")
        for found in imports(path)
        if set(TASKS) & set(found.split("."))
    }
    assert not wrong


def test_no_command_has_the_name_of_a_standard_module() -> None:
    """Python looks into a script's own folder first, so that `scripts/profile.py` would replace the profiler."""
    names = {path.stem for path in (ROOT / "scripts").iterdir() if path.suffix == ".py" or path.is_dir()}
    assert names & set(sys.stdlib_module_names) == set()


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert not {name: length for name, length in lengths.items() if length > LONGEST}
    assert statistics.median(length for length in lengths.values() if length) < MEDIAN


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_one_name_through_the_whole_tree(task: str) -> None:
    places = [f"tasks/{task}/module.py", f"datamodules/{task}/datamodule.py", f"datamodules/{task}/mini/generator.py"]
    places += [f"configs/task/{task}.yaml", f"docs/{task}.md", f"tests/tasks/{task}", f"tests/datamodules/{task}"]
    places += [f"configs/scale/{scale}/{task}.yaml" for scale in ("paper", "mini", "smoke")]
    assert [place for place in places if not (ROOT / place).exists()] == []
