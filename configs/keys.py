"""The first check of a configuration: misspelt keys, and wrong values of the fields of configs/schema.py.

It imports neither torch nor Lightning nor a task, so a mistyped key is answered in a second. Names are compared with
sources (configs/signatures.py). What it does not know it passes on to the whole check (configs/validation.py).
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf

from configs.command_line import GROUPS
from configs.errors import listed, nearest
from configs.knobs import problem
from configs.signatures import entries, parameters
from configs.type_hints import Names, choices, fits, wanted

HYDRA_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_"}
SUPPLIED = {"task": ("mask", "facts"), "trainer": ("callbacks", "logger")}  # arguments that the code passes, by node
KINDS = "lcaam.stack.KINDS"  # a mask takes the settings of its kind as well
NEAR, NEARER = 0.5, 0.1  # least likeness of a hint; by how much a name of another node must be nearer than one here
HINTS = 3  # places that are named if a key is in several


def misspelt(cfg: DictConfig | Mapping[str, Any], plain: Mapping[str, Any], schema: type) -> list[str]:
    """What is wrong with the keys of a configuration and with the plain fields of `schema`, one line each.

    plain: `cfg` as resolved dicts. A field that follows another setting is left to the whole check, which names that.
    """
    known = dict(known_keys(plain, schema))
    unknown = [
        (path, key)
        for path, names in known.items()
        if names is not None
        for key in node_at(plain, path)
        if key not in names and key not in HYDRA_KEYS and key not in SUPPLIED.get(path, ())
    ]
    bad = {join(*one) for one in unknown}
    places = {join(path, name) for path, names in known.items() for name in names or node_at(plain, path)}
    places |= set(leaves(plain))
    supplied = {join(node, name) for node, names in SUPPLIED.items() for name in names}
    places = {place for place in places - supplied if not any(f"{place}.".startswith(f"{one}.") for one in bad)}
    problems = []
    for path, key in unknown:
        names = [name for name in known[path] if name not in SUPPLIED.get(path, ())]
        names += [] if path else sorted(GROUPS - set(names))
        hint = did_you_mean(path, key, names, places)
        problems.append(f"{join(path, key)}: unknown key{hint} (keys of {path or 'a run'}: {listed(names)})")
    return [*problems, *no_part(plain), *wrong_values("", plain, schema, following(cfg))]


def following(cfg: DictConfig | Mapping[str, Any]) -> set[str]:
    """The dotted names whose values are taken from other settings: `${...}`."""
    raw = OmegaConf.to_container(cfg, resolve=False) if isinstance(cfg, DictConfig) else cfg
    found = set()
    for key, value in raw.items():
        if isinstance(value, Mapping):
            found |= {join(key, name) for name in following(value)}
        elif isinstance(value, str) and "${" in value:
            found.add(key)
    return found


def no_part(plain: Mapping[str, Any]) -> Iterator[str]:
    """Callbacks and loggers that have settings and are not there: misspelt, or not of the chosen file."""
    for group in ("callbacks", "logger"):
        nodes = plain.get(group) or {}
        there = [name for name, node in nodes.items() if isinstance(node, Mapping) and "_target_" in node]
        for name, node in nodes.items():
            if node is not None and name not in there:
                yield (
                    f"{group}.{name}: the chosen {group} have no such part{nearest(name, there)} (parts: "
                    f"{listed(there) or 'none'}); to leave its settings out: {group}.{name}=null"
                )


def did_you_mean(path: str, key: str, names: list[str], places: set[str]) -> str:
    """`; did you mean 'data.batch_size'?`: the same name elsewhere, else the nearest one, in this node if it is near.

    names: those that the node at `path` takes; places: every dotted name of the configuration.
    """
    same = sorted((place for place in places if place.rpartition(".")[2] == key), key=lambda one: (one.count("."), one))
    if same:
        first = [place for place in same if place.count(".") == same[0].count(".")][:HINTS]
        return f"; did you mean {' or '.join(map(repr, first))}?"
    here = max(((likeness(key, name), name) for name in names), default=(0.0, ""))
    there = max(((likeness(key, place.rpartition(".")[2]), place) for place in places), default=(0.0, ""))
    best = there if there[0] > here[0] + NEARER else here
    return f"; did you mean {best[1]!r}?" if best[0] >= NEAR else ""


def likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def known_keys(plain: Mapping[str, Any], schema: type) -> Iterator[tuple[str, list[str] | None]]:
    """The nodes whose keys are known, as dotted paths, each with its keys; None for one that takes any."""
    for path, kind in {"": schema, **of_dataclasses(plain, schema)}.items():
        names = [field.name for field in dataclasses.fields(kind)]
        if hasattr(kind, "further"):
            more = kinds_settings(str(node_at(plain, path).get("kind")))
            names = None if more is None else list(dict.fromkeys([*names, *more]))
        yield path, names
    for path, node in targets("", plain):
        found = parameters(node["_target_"])
        if found is None or found.open:
            yield path, None
            continue
        yield path, list(found.names)
        for name, target in found.names.items():
            inner = node.get(name)
            if target and isinstance(inner, Mapping) and "_target_" not in inner:
                fields = parameters(target)
                yield join(path, name), None if fields is None or fields.open else list(fields.names)


def kinds_settings(kind: str) -> list[str] | None:
    """The settings of a shipped kind of mask; None if the kind is not shipped or lcaam is at hand to say it itself."""
    shipped = entries(KINDS) or {}
    if kind not in shipped or "lcaam.stack" in sys.modules:
        return None
    found = parameters(shipped[kind])
    return None if found is None else list(found.names)


def of_dataclasses(plain: Mapping[str, Any], schema: type) -> dict[str, type]:
    """The nodes of the root that a dataclass describes."""
    hints = get_type_hints(schema)
    return {
        name: kind
        for name, kind in hints.items()
        if dataclasses.is_dataclass(kind) and isinstance(plain.get(name), Mapping)
    }


def targets(path: str, node: Any) -> Iterator[tuple[str, Mapping]]:
    """Every node below `path` that names a `_target_`."""
    if isinstance(node, (list, tuple)):
        for number, item in enumerate(node):
            yield from targets(f"{path}[{number}]", item)
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield path, node
        for key, value in node.items():
            yield from targets(join(path, key), value)


def wrong_values(path: str, node: Mapping, schema: type, left_out: set[str]) -> Iterator[str]:
    """Fields whose values do not fit; what only lcaam can judge is left to the whole check."""
    for name, annotation in get_type_hints(schema, include_extras=True).items():
        full, value = join(path, name), node.get(name)
        if name not in node or any(isinstance(kind, type) and issubclass(kind, Names) for kind in parts(annotation)):
            continue
        if dataclasses.is_dataclass(annotation):
            if isinstance(value, Mapping):
                yield from wrong_values(full, value, annotation, left_out)
            continue
        if full in left_out:
            continue
        if not fits(value, annotation):
            yield f"{full}: {value!r} is not {wanted(annotation)}{nearest(value, choices(annotation))}"
        elif (wrong := problem(full, value, annotation)) is not None:
            yield wrong


def parts(annotation: Any) -> tuple:
    return (annotation, *get_args(annotation))


def leaves(node: Mapping, path: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, join(path, key))
        elif key not in HYDRA_KEYS:
            yield join(path, key)


def node_at(plain: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    node: Any = plain
    for part in path.replace("[", ".[").split(".") if path else ():
        node = node[int(part[1:-1])] if part.startswith("[") else node[part]
    return node


def join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
