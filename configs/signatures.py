"""What a class or a function takes, read from its source: torch and Lightning take seconds to import, this does not.

>>> parameters("tasks.moment_retrieval.module.MomentRetrieval").names
{'mask': None, 'facts': None, 'width': None, ..., 'losses': 'tasks.moment_retrieval.losses.LossSettings', ...}

It knows names, not values, and it may know nothing (None): a misspelt name is told at once, and `validate` still checks
everything against the real signatures.
"""

import ast
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from configs.resolvers import ROOT

Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Parameters:
    """names: the parameters, each with the dotted name of the dataclass that describes its value, or None.
    open: whether it takes any other keyword as well. defaults: by parameter, as far as the source has them as words
    and numbers."""

    names: dict[str, str | None]
    open: bool
    defaults: dict[str, Any] = field(default_factory=dict)


@cache
def parameters(target: str) -> Parameters | None:
    """The keywords of the class or function that a dotted name leads to; None if its source does not tell."""
    found = _definition(target)
    return None if found is None else _parameters(*found)


@cache
def entries(mapping: str) -> dict[str, str] | None:
    """The literal dict that a dotted name leads to: its keys, and the dotted names of its values as far as they have
    one. None if it is not a literal with words as keys; what was added to it later is not seen."""
    module, _, name = mapping.rpartition(".")
    path = _file(module)
    for node in _tree(path).body if path else ():
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(one, ast.Name) and one.id == name for one in targets) and isinstance(node.value, ast.Dict):
            keys = [key.value if isinstance(key, ast.Constant) else None for key in node.value.keys]
            values = [_imported(module, getattr(value, "id", "")) or "" for value in node.value.values]
            return None if not all(isinstance(key, str) for key in keys) else dict(zip(keys, values, strict=True))
    return None


def _parameters(module: str, node: Definition) -> Parameters | None:
    if isinstance(node, ast.FunctionDef):
        return _of_function(module, node, 0)
    own = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
    if own is not None:
        return _of_function(module, own, 1)
    if _is_dataclass(node):
        fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
        names = {part.target.id: _dataclass_in(module, part.annotation) for part in fields}
        defaults = _literals((part.target.id, _of_field(part.value)) for part in fields)
        return Parameters(names, node.bases != [], defaults)
    bases = [_imported(module, base.id) for base in node.bases if isinstance(base, ast.Name)]
    return next((found for base in bases if base and (found := parameters(base))), None)


def _of_function(module: str, node: ast.FunctionDef, skipped: int) -> Parameters:
    given = node.args
    taken = [*given.posonlyargs, *given.args][skipped:] + given.kwonlyargs
    names = {one.arg: one.annotation and _dataclass_in(module, one.annotation) for one in taken}
    plain = [*given.posonlyargs, *given.args]
    last = plain[len(plain) - len(given.defaults) :]
    values = [*zip(last, given.defaults, strict=True), *zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    return Parameters(names, given.kwarg is not None, _literals((one.arg, value) for one, value in values))


def _literals(values: Iterable[tuple[str, ast.expr | None]]) -> dict[str, Any]:
    found = {}
    for name, value in values:
        try:
            found[name] = ast.literal_eval(value) if value is not None else ...
        except ValueError:  # a name, or a call
            continue
    return {name: value for name, value in found.items() if value is not ...}


def _of_field(value: ast.expr | None) -> ast.expr | None:
    """The default of a dataclass's field, also of one that is written `field(default=...)`."""
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "field":
        return next((word.value for word in value.keywords if word.arg == "default"), None)
    return value


def _dataclass_in(module: str, annotation: ast.expr) -> str | None:
    """The dotted name of the dataclass that an annotation names, such as `Context | None`."""
    for name in (part.id for part in ast.walk(annotation) if isinstance(part, ast.Name)):
        target = _imported(module, name)
        found = _definition(target) if target and target.split(".")[0] not in ("typing", "torch") else None
        if (
            found
            and _is_dataclass(found[1])
            and not any(getattr(part, "name", "") == "further" for part in found[1].body)
        ):
            return target
    return None


def _is_dataclass(node: Definition) -> bool:
    marks = [mark.func if isinstance(mark, ast.Call) else mark for mark in node.decorator_list]
    return isinstance(node, ast.ClassDef) and any(getattr(mark, "id", "") == "dataclass" for mark in marks)


def _definition(target: str) -> tuple[str, Definition] | None:
    """The module and the node in which a dotted name is defined, through the imports that lead there."""
    module, _, name = target.rpartition(".")
    path = _file(module)
    if path is None:
        return None
    for node in _tree(path).body:
        if isinstance(node, Definition) and node.name == name:
            return module, node
    further = _imported(module, name)
    return None if further in (None, target) else _definition(further)


def _imported(module: str, name: str) -> str | None:
    """The dotted name that `name` stands for in a module: its own, imported, or from datamodules.lazy."""
    path = _file(module)
    for node in _tree(path).body if path else ():
        if isinstance(node, Definition) and node.name == name:
            return f"{module}.{name}"
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return f"{node.module}.{alias.name}"
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            words = [part.value for part in node.value.args if isinstance(part, ast.Constant)]
            if getattr(node.value.func, "id", "") == "lazy" and name in words[1:]:
                return f"{words[0]}.{name}"
    return None


@cache
def _file(module: str) -> Path | None:
    """The source of a module, of which nothing is imported."""
    first, *rest = module.split(".")
    if (ROOT / first).is_dir():
        place = ROOT / first
    else:
        spec = PathFinder.find_spec(first) if first else None
        if spec is None or not spec.submodule_search_locations:
            return None
        place = Path(next(iter(spec.submodule_search_locations)))
    path = place.joinpath(*rest)
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
