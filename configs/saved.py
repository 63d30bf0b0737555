"""Opens a finished run's config.yaml with the changes of a command line: `run=<folder> data.batch_size=8`.

The folder may be a stranger's. Its config.yaml is saved resolved, so an interpolation in it (`${oc.env:HOME}`) is
refused, and so are YAML's own references, a few of which can stand for gigabytes. Its callbacks and loggers are left
out: whoever tests a run again brings their own.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.contradictions import owner
from configs.errors import ConfigError, listed, nearest
from configs.guard import reading
from configs.schema import validate

LARGEST = 2**20  # bytes of a config.yaml; a run's has a few thousand
DEEPEST = 50  # mappings and lists within each other; a run has about five
NODES = ("data", "task", "mask", "trainer", "paths")  # what every run's configuration has
TRAINED = ("mask", "num_keys")  # what every task's weights were made for; the classes add their `weights_depend_on`


def open_run(settings: DictConfig, arguments: list[str]) -> tuple[DictConfig, DictConfig, set[str]]:
    """Sorts `key=value` arguments into `settings` (keys it has) and changes to the saved configuration.

    Returns the settings, the changed configuration and the changes' keys (with their parents). Raises ConfigError if
    there is no run, if an argument cannot be read, or if a change would need other weights. `validate` checks later
    that the changed keys exist.
    """
    own_keys = list(settings.keys())  # `in settings` is False for a key whose value is still missing
    values = _parse(arguments, own_keys)
    changes = {key: value for key, value in values.items() if key not in own_keys}
    settings = OmegaConf.merge(settings, {key: value for key, value in values.items() if key in own_keys})
    if OmegaConf.is_missing(settings, "run") or not settings.run:
        raise ConfigError(f"run=<a run's folder, or a checkpoint in it> is missing; settings: {listed(own_keys)}")
    path = _config_of(Path(settings.run))
    cfg = load(path)
    cfg.paths.run_dir = str(path.parent)  # the run may have been moved since
    saved = OmegaConf.create(OmegaConf.to_container(cfg))
    for key, value in changes.items():
        if key.split(".")[0] not in cfg:
            raise ConfigError(f"{key}: unknown key{nearest(key, [*own_keys, *cfg])} (settings: {listed(own_keys)})")
        try:
            OmegaConf.update(cfg, key, value, force_add=True)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{key}: {str(error).splitlines()[0]}") from error
    with _of_file(path):
        trained = _trained(saved, cfg)
    _refuse_other_weights(saved, cfg, trained)
    parts = [key.split(".") for key in changes]
    return settings, cfg, {".".join(names[: i + 1]) for names in parts for i in range(len(names))}


def load(path: Path) -> DictConfig:
    """A run's config.yaml without its callbacks and loggers.

    Raises ConfigError, with the file's name: unreadable, not a run's, with interpolations or references.
    """
    with reading(f"{path}: not the configuration of a run", ConfigError):
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{path}: {path.stat().st_size:,} bytes; a run's configuration has a few thousand")
        text = path.read_text(encoding="utf-8")
        _refuse_bombs(path, text)
        cfg = OmegaConf.create(text)
        if not isinstance(cfg, DictConfig) or not all(isinstance(cfg._get_node(node), DictConfig) for node in NODES):
            raise ConfigError(f"{path}: not the configuration of a run, which has the mappings {listed(NODES)}")
        plain = OmegaConf.to_container(cfg, resolve=False)
    if asking := [key for key, value in _leaves(plain) if isinstance(value, str) and "${" in value]:
        raise ConfigError(
            f"{path}: {asking[0]}: an interpolation; a run saves its configuration resolved, so this file was changed. "
            "Nothing of it was looked up"
        )
    cfg.callbacks = cfg.logger = None
    return cfg


def _refuse_bombs(path: Path, text: str) -> None:
    """ConfigError for references, and for a depth that a reader would need minutes for."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{path}: has references (*name), which no run writes into its configuration")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ConfigError(f"{path}: lists in lists, too deep to be read")


def check(cfg: DictConfig) -> None:
    """Validates an opened configuration. Raises ConfigError that names its file too."""
    with _of_file(Path(cfg.paths.run_dir) / "config.yaml"):
        validate(cfg)


@contextmanager
def _of_file(path: Path) -> Iterator[None]:
    """Begins every message from inside with the file's name."""
    with reading(f"{path}: not the configuration of a run", ConfigError):
        try:
            yield
        except ConfigError as error:
            raise ConfigError(f"{path}, with the changes of the command line:\n{error}") from error


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of everything below a node that is neither a mapping nor a list."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}".lstrip("."))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _leaves(value, f"{path}[{number}]")
    else:
        yield path, node


def _parse(arguments: list[str], literal: Collection[str]) -> dict:
    """Parses `key=value` with Hydra's own grammar; nothing else, as a saved configuration has no groups and no sweeps.

    The values of `literal` keys are paths and names: they are not parsed, whatever characters they have.
    """
    values = {}
    for argument in arguments:
        key, given, text = argument.partition("=")
        if given and key in literal:
            values[key] = None if text == "null" else text
            continue
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException as error:
            raise ConfigError(f"'{argument}' is not key=value: {str(error).splitlines()[0]}") from error
        if override.is_delete() or override.is_sweep_override():
            raise ConfigError(f"'{argument}': only key=value is possible here")
        values[override.key_or_group] = override.value()
    return values


def _refuse_other_weights(saved: DictConfig, changed: DictConfig, trained: list[str]) -> None:
    """Raises ConfigError if a change asks for a model that the checkpoint's weights do not belong to."""
    problems = []
    for key in trained:
        before, after = OmegaConf.select(saved, key), OmegaConf.select(changed, key)
        if before == after:
            continue
        pairs = [(key, before, after)]
        if isinstance(before, DictConfig) and isinstance(after, DictConfig):
            pairs = [(f"{key}.{name}", before[name], after.get(name)) for name in before]  # a new key: unknown
        problems += [
            f"{name}: {new}: the run was trained with {old}, and a checkpoint's weights belong to its mask and to what "
            f"it reads; train again with {name}={new}"
            for name, old, new in pairs
            if old != new
        ]
    if problems:
        raise ConfigError("\n".join(problems))


def _trained(saved: DictConfig, changed: DictConfig) -> list[str]:
    """The keys that the weights belong to: TRAINED, and what the classes of the task and the data say."""
    plain = OmegaConf.to_container(saved)
    patterns = [
        f"{node}.{name}" for node in ("data", "task") for name in getattr(owner(plain, node), "weights_depend_on", ())
    ]
    there = [key for cfg in (saved, changed) for key in _every_key(OmegaConf.to_container(cfg))]
    found = [key for pattern in patterns for key in there if _matches(key, pattern)]
    return [*TRAINED, *dict.fromkeys(found)]


def _every_key(node: Mapping, path: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield f"{path}{name}"
        if isinstance(value, Mapping):
            yield from _every_key(value, f"{path}{name}.")


def _matches(key: str, pattern: str) -> bool:
    """Whether a dotted key matches the pattern, in which `*` stands for any single name."""
    names, wanted = key.split("."), pattern.split(".")
    return len(names) == len(wanted) and all(one in (name, "*") for name, one in zip(names, wanted, strict=True))


def _config_of(run: Path) -> Path:
    """The config.yaml of a run's folder, or of the run that a checkpoint belongs to."""
    with reading(f"run={run}: there is no such folder or file", ConfigError):
        if not run.exists():
            raise ConfigError(f"run={run}: there is no such folder or file")
    folders = [run] if run.is_dir() else list(run.absolute().parents)
    path = next((folder / "config.yaml" for folder in folders if (folder / "config.yaml").is_file()), None)
    if path is None:
        where = f"in {run}" if run.is_dir() else f"in a folder above {run}"
        raise ConfigError(f"run={run}: no config.yaml {where}; a run is logs/<experiment>/<scale>/seed<k>/<time>")
    return path
