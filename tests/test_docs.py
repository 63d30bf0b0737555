"""Documentation that runs: every Python snippet, every link, every command line."""

import ast
import contextlib
import re
import runpy
import sys
from functools import cache
from itertools import chain
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from configs.extras import missing_extra
from configs.schema import validate
from tests.commands import PAGES, Command, commands
from tests.composing import CONFIGS, composed
from tests.programs import ROOT

COMMANDS = commands()
OWN_WORDS = {"output", "row_tokens"}  # keys of scripts.pretrain_language_model and scripts.memory, beside train.py's


@pytest.mark.parametrize("page", PAGES)
def test_every_python_snippet_runs(page):
    """In order, in one namespace per page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    names = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(code, page, "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), f"{page}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in slugs, f"{page}: {target}"


# -- command lines ----------------------------------------------------------------------------------------------------


def forms(command: Command) -> str:
    """How a command starts: train, eval, scripts, make, or other."""
    words = [word for word in command.words[1:] if word != "-m"]
    if command.words[0] == "make":
        return "make"
    if words and words[0].startswith("scripts."):
        return "scripts"
    named = [word for word in words if word in ("train.py", "eval.py")]
    return named[0].removesuffix(".py") if named else "other"


def of_form(*names: str) -> list[Command]:
    return [command for command in COMMANDS if forms(command) in names]


def settings(words: tuple[str, ...]) -> list[str]:
    """The words that are `key=value` for Hydra."""
    return [word for word in words if re.match(r"[+~]?[\w./@]+=", word) and not word.startswith("--")]


def test_the_pages_have_commands_of_every_form():
    assert {forms(command) for command in COMMANDS} >= {"train", "eval", "scripts", "make"}
    assert len(of_form("train")) > 30
    assert len(of_form("scripts")) > 30


def test_no_page_calls_a_command_by_its_file():
    for page in PAGES:
        assert not re.search(r"python [\w/]*(?:scripts|tasks)/", (ROOT / page).read_text(encoding="utf-8")), page


def each_choice(given: list[str]) -> list[list[str]]:
    """Overrides of single runs that cover a sweep: each value of each key once, the other keys at their first value.

    Of seeds the first one only: all of them are numbers.
    """
    (sweep,) = [word.removeprefix("sweep=") for word in given if word.startswith("sweep=")] or [None]
    params = {}
    if sweep is not None:
        params = OmegaConf.load(CONFIGS / "sweep" / f"{sweep}.yaml").hydra.sweeper.params
    # what Optuna draws from, such as interval(1e-5, 1e-2), is left at the configuration's own value
    values = {key: str(value).split(",") for key, value in params.items() if "(" not in str(value)}
    for word in given:
        key, _, value = word.partition("=")
        if re.search(r"[\[{(]", value):  # a list, a mapping or a range is one value
            values[key] = [value]
        elif key != "sweep":
            values[key] = value.split(",")
    first = {key: choices[0] for key, choices in values.items()}
    others = [(key, choice) for key, choices in values.items() if key != "seed" for choice in choices[1:]]
    runs = [first, *({**first, key: choice} for key, choice in others)]
    return [[f"{key}={value}" for key, value in run.items()] for run in runs]


@cache
def check_valid(*overrides: str) -> None:
    """Composed and validated once, however many pages have the command."""
    validate(composed(Path("nowhere"), *overrides))


OWN_EXPERIMENT = "experiment=marked_number_lcaam"  # docs/extending.md writes it; tests/test_extending.py runs it


@pytest.mark.parametrize("command", [c for c in of_form("train") if OWN_EXPERIMENT not in c.words], ids=str)
def test_every_training_command_composes_to_a_valid_configuration(command):
    if (missing := missing_extra(command.words)) is not None:
        pytest.skip(missing)
    for overrides in each_choice(settings(command.words)):
        check_valid(*overrides)


@pytest.mark.parametrize("command", of_form("eval"), ids=str)
def test_every_evaluation_command_names_a_run_and_known_settings(command):
    given = dict(word.split("=", 1) for word in settings(command.words))
    run = given.pop("run")
    own = OmegaConf.load(CONFIGS / "eval.yaml")
    changes = [f"{key}={value}" for key, value in given.items() if key not in own]
    experiments = {path.stem for path in (CONFIGS / "experiment").glob("*.yaml")}
    experiment = next((f"experiment={part}" for part in run.split("/") if part in experiments), None)
    assert experiment or not changes
    check_valid(*filter(None, [experiment]), *changes)


@pytest.mark.parametrize("command", [c for c in of_form("scripts") if c.words[2] != "scripts.NAME"], ids=str)
def test_every_script_exists_and_has_the_options_that_are_shown(command, monkeypatch, capsys):
    module, *words = command.words[2:]
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), f"no module {module}"
    part = [word for word in words[:1] if re.fullmatch(r"[a-z]\w*", word)]  # such as the benchmark's name
    monkeypatch.setattr(sys, "argv", [module, *part, "--help"])
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.__main__")]:
        parent, _, child = name.rpartition(".")
        if hasattr(sys.modules.get(parent), child):  # afterwards it must be the module that sys.modules has again
            monkeypatch.setattr(sys.modules[parent], child, sys.modules[name])
        monkeypatch.delitem(sys.modules, name)  # run_module warns about a module that is imported already
    with contextlib.suppress(SystemExit):
        runpy.run_module(module, run_name="__main__")
    text = capsys.readouterr().out
    assert text, f"{module} --help says nothing"
    for option in (word.partition("=")[0] for word in words if word.startswith("--")):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), f"{module} has no {option}"
    if "experiment=" in " ".join(words):
        given = [word for word in settings(tuple(words)) if word.partition("=")[0] not in OWN_WORDS]
        sweep = [f"sweep={name}" for name in part if module == "scripts.table"]  # it has the table's own settings
        for overrides in each_choice(given):
            check_valid(*sweep, *overrides)


@pytest.mark.parametrize("command", of_form("make"), ids=str)
def test_every_make_target_and_variable_exists(command):
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    target, *variables = command.words[1:]
    assert re.search(rf"^{target}:.* ## \S", text, re.MULTILINE), f"no target {target}, or `make help` does not show it"
    for name in (word.partition("=")[0] for word in variables):
        assert re.search(rf"^{name} \?=", text, re.MULTILINE), f"no variable {name}"


# -- the site ---------------------------------------------------------------------------------------------------------


def test_the_site_shows_every_page_once():
    shown = re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    pages = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(shown) == sorted(pages)


def test_the_reference_has_the_module_of_everything_that_lcaam_exports():
    listed = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    for name in listed:
        assert (ROOT / f"{name.replace('.', '/')}.py").is_file(), name
    tree = ast.parse((ROOT / "lcaam" / "__init__.py").read_text(encoding="utf-8"))
    modules = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    integrations = {f"lcaam.integrations.{path.stem}" for path in (ROOT / "lcaam" / "integrations").glob("*.py")}
    public = {name for name in chain(modules, integrations) if has_public_docs(name)}
    assert public <= set(listed), f"docs/reference.md lacks {sorted(public - set(listed))}"


def has_public_docs(name: str) -> bool:
    """Whether a module is meant to be imported by users: its docstring has a line that shows how."""
    path = ROOT / f"{name.replace('.', '/')}.py"
    return path.is_file() and ">>>" in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
