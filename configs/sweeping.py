"""The cells of a sweep: every combination of its values, and the rows that stand beside that product.

    hydra:
      sweeper:
        params: {experiment: madv2_baseline, mask: multi_lcaam, mask.fusion: "add,mul", seed: "0,1"}      four cells
        also: [{mask: none}]      two more, with the experiment and the seeds of `params`, and no fusion

A row of `also` takes over the seeds, and those keys of `params` that have one value there; not what the product varies.
A key that it sets itself keeps, of these values, those that a command line names: `seed=0,1` is for all rows, and
`mask=lcaam,table` leaves out `{mask: none}`.
The sweeper `rows` (hydra_plugins/lcaam_sweeps/rows_sweeper.py) runs them, and `python -m scripts.table` expects them.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from configs.errors import ConfigError
from configs.resolvers import ROOT

SEED = "seed"


def cells(
    params: Mapping[str, Any] | None, also: Sequence[Mapping[str, Any]] | None, arguments: Iterable[str]
) -> list[list[str]]:
    """The overrides of every cell. `arguments`, a command line's, win over `params`.

    Raises ConfigError for a range to draw from, which only a search understands.
    """
    own, given = values_of(words(params or {})), values_of(arguments)
    found = combinations({**own, **given})
    varied = {key for key, values in own.items() if len(values) > 1 and key != SEED}
    shared = {key: values for key, values in {**own, **given}.items() if key not in varied}
    for one in also or ():
        mine = values_of(words(one))
        kept = {key: [value for value in values if value in given.get(key, values)] for key, values in mine.items()}
        found += combinations({**shared, **kept})
    once: dict[frozenset[str], list[str]] = {}  # a command line may put a row of `also` into the product too
    for cell in found:
        once.setdefault(frozenset(cell), cell)
    return list(once.values())


def combinations(values: Mapping[str, list[str]]) -> list[list[str]]:
    return [list(one) for one in itertools.product(*values.values())]


def words(params: Mapping[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in params.items()]


def values_of(arguments: Iterable[str]) -> dict[str, list[str]]:
    """`["seed=0,1"]` -> `{"seed": ["seed=0", "seed=1"]}`; of a key that is there twice, the last."""
    return {one.get_key_element(): choices(one) for one in OverridesParser.create().parse_overrides(list(arguments))}


def choices(override: Override) -> list[str]:
    key = override.get_key_element()
    if override.is_delete():
        return [str(override.input_line)]
    if not override.is_sweep_override():
        return [f"{key}={override.get_value_element_as_str()}"]
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: a range to draw from; a table needs values, such as {key}=1,2")
    return [f"{key}={value}" for value in override.sweep_string_iterator()]


def sweeper_of(name: str) -> dict[str, Any]:
    """`params` and `also` of configs/sweep/<name>.yaml; empty without such a file."""
    path = ROOT / "configs" / "sweep" / f"{name}.yaml"
    node = OmegaConf.select(OmegaConf.load(path), "hydra.sweeper") if path.is_file() else None
    plain = {} if node is None else OmegaConf.to_container(node)
    return {"params": plain.get("params") or {}, "also": plain.get("also") or []}
