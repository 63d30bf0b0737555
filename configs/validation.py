"""Checks a composed configuration: types and keys against dataclasses and signatures, targets, contradictions."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.command_line import GROUPS
from configs.contradictions import contradictions, owner
from configs.errors import ConfigError, listed, nearest
from configs.keys import HYDRA_KEYS, SUPPLIED, join, misspelt
from configs.knobs import problem
from configs.targets import resolve
from configs.type_hints import choices, fits, wanted


def problems_of(cfg: DictConfig | Mapping, schema: type) -> list[str]:
    """The problems of a configuration whose root is described by the dataclass `schema`. Builds nothing.

    Those that need no library are told first and alone (configs/keys.py), in a second; then all others at once.
    """
    plain = as_plain(cfg)
    if problems := misspelt(cfg, plain, schema):
        return problems
    problems = check_fields("", plain, schema)
    problems += check_targets("", plain)
    if not problems:  # a contradiction between values of the wrong type says nothing
        problems = contradictions(plain) + check_monitors(plain)
    return problems


def as_plain(cfg: DictConfig | Mapping) -> dict[str, Any]:
    """`cfg` as resolved dicts and lists. Raises ConfigError for a value that is missing or cannot be resolved."""
    try:
        if isinstance(cfg, DictConfig):
            return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        return dict(cfg)
    except OmegaConfBaseException as error:
        where = getattr(error, "full_key", None)
        raise ConfigError(f"{where or 'configuration'}: {str(error).splitlines()[0]}") from error


def check_fields(path: str, node: Any, schema: type) -> list[str]:
    """The problems of one mapping against a dataclass."""
    if not isinstance(node, Mapping):
        return [f"{path}: {node!r} is not a mapping with the keys {listed(f.name for f in dataclasses.fields(schema))}"]
    parameters = inspect.signature(schema).parameters
    further, hints = schema.further(node) if hasattr(schema, "further") else ({}, {})
    known = {**parameters, **{name: entry for name, entry in further.items() if name not in parameters}}
    problems = _check_keys(path, node, known, {**hints, **get_type_hints(schema, include_extras=True)})
    younger = {item.name for item in dataclasses.fields(schema) if item.metadata.get("younger")}
    frame = schema.__module__ == "configs.schema"  # these fields have to be given; a part's own class has defaults
    problems += [
        f"{join(path, name)}: is missing; {path or 'a run'} needs {listed(parameters)}"
        for name, parameter in parameters.items()
        if frame and parameter.default is not parameter.empty and name not in node and name not in younger
    ]
    return problems or ([] if frame else refused(path, node, schema))


def refused(path: str, node: Mapping, schema: type) -> list[str]:
    """The problems that a part's own dataclass finds in values of the right types."""
    try:
        schema(**node)
    except ConfigError as error:  # its message names the key
        return [str(error)]
    except ValueError as error:
        return [f"{path}: {error}"]
    return []


def check_targets(path: str, node: Any) -> list[str]:
    """The problems of every node below `path` that names a `_target_`."""
    if isinstance(node, (list, tuple)):
        return [problem for i, item in enumerate(node) for problem in check_targets(f"{path}[{i}]", item)]
    if not isinstance(node, Mapping):
        return []
    problems = []
    if "_target_" in node:
        try:
            problems += _check_call(path, node, resolve(path, node["_target_"]))
        except ConfigError as error:
            problems.append(str(error))
    for key, value in node.items():
        problems += check_targets(join(path, key), value)
    return problems


def check_monitors(plain: Mapping) -> list[str]:
    """The problems of callbacks and sweepers that read a training or validation metric that the task never logs.

    Asks the task class for the names that it logs with its settings (`named`); a task without `logged` is not checked.
    """
    task = owner(plain, "task")
    if getattr(task, "logged", None) is None:
        return []
    named = task.named(plain["task"])
    logged = named.logged
    nodes = {f"callbacks.{name}.monitor": node for name, node in (plain["callbacks"] or {}).items()}
    names = {path: node["monitor"] for path, node in nodes.items() if isinstance(node, Mapping) and "monitor" in node}
    return optimized_problems(plain["optimized_metric"], named) + [
        f"{path}: the task never logs '{name}'{nearest(name, logged)} (it logs {listed(logged)})"
        for path, name in names.items()
        if isinstance(name, str) and name.startswith(("train/", "val/")) and name not in logged
    ]


def optimized_problems(name: str | None, task: Any) -> list[str]:
    """The problem of a metric that a sweeper would get nothing of, or that it must not see: the test's."""
    if name is None or name in task.logged:
        return []
    of_test = name.removeprefix("test/")
    if of_test in getattr(task, "headline", ()):
        seen = [other for other in (f"val/{of_test}", "val/loss") if other in task.logged]
        return [
            f"optimized_metric: '{name}' is measured on the test set, and nothing may be chosen on it; allowed: "
            f"{listed(seen or task.logged)}"
        ]
    hint = f"{nearest(name, task.logged)} (it logs {listed(task.logged)})"
    return [f"optimized_metric: the task never logs '{name}'{hint}"]


def _check_call(path: str, node: Mapping, target: Callable) -> list[str]:
    """The problems of one node's keywords against the signature of what it calls."""
    try:
        parameters = dict(inspect.signature(target).parameters)
        hints = get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except (ValueError, TypeError, NameError):  # built in C, or annotated with names that exist for type checkers only
        return []
    keywords = {key: value for key, value in node.items() if key not in HYDRA_KEYS}
    supplied = SUPPLIED.get(path, ())
    problems = [f"{path}.{key}: is set by the program, not by the configuration" for key in supplied if key in keywords]
    for key in supplied:
        parameters.pop(key, None)
        keywords.pop(key, None)
    return problems + _check_keys(path, keywords, parameters, hints, node.get("_partial_") is not True)


def _check_keys(path: str, node: Mapping, parameters: Mapping, hints: Mapping, complete: bool = True) -> list[str]:
    problems = []
    kinds = {parameter.kind for parameter in parameters.values()}
    named = {name: p for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for key, value in node.items():
        if key not in named:
            if inspect.Parameter.VAR_KEYWORD not in kinds:
                known = list(named) if path else [*named, *sorted(GROUPS - named.keys())]
                problems.append(
                    f"{join(path, key)}: unknown key{nearest(key, known)} (keys of {path or 'a run'}: {listed(known)})"
                )
            continue
        problems += _check_value(join(path, key), value, hints.get(key, Any), named[key].default)
    if complete:
        missing = [name for name, p in named.items() if p.default is p.empty and name not in node]
        problems += [f"{join(path, name)}: is missing" for name in missing]
    return problems


def _check_value(path: str, value: Any, annotation: Any, default: Any) -> list[str]:
    if value is None and default is None:
        return []
    kinds = (kind for kind in (annotation, *get_args(annotation)) if inspect.isclass(kind))
    schema = next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)
    if schema is not None and not (isinstance(value, Mapping) and "_target_" in value):
        return [] if value is None and fits(None, annotation) else check_fields(path, value, schema)
    if not fits(value, annotation):
        return [f"{path}: {value!r} is not {wanted(annotation)}{nearest(value, choices(annotation))}"]
    wrong = problem(path, value, annotation)
    return [] if wrong is None else [wrong]
