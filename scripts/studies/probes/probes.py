"""The eight probes: what each asks, its knob, and the values of that.

A new probe is an entry of PROBES: a question, a function that draws its data (data.py), the values of its knob, and its
predictions (predictions.py).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Generator, Tensor

from configs.errors import ConfigError, listed, nearest
from scripts.studies.probes import data
from scripts.studies.probes.data import Batch
from scripts.studies.probes.masks import Row

Draw = Callable[[Generator, int], Batch]


@dataclass(frozen=True)
class Value:
    """One value of a probe's knob.

    draw: (generator, count) -> samples. steps: of training. positions: whether tokens get learned positions. pool: how
    many training samples there are; None for new ones in every batch. heads: of each layer of width 32.
    groups: 1, one mask for all heads, or "heads", one per head. mask: settings of masks that read tokens.
    """

    label: str
    draw: Draw
    steps: int
    positions: bool = False
    pool: int | None = None
    heads: int = 2
    groups: int | str = 1
    mask: dict[str, Any] = field(default_factory=dict)

    def settings(self, row: Row) -> dict[str, Any]:
        """The `mask` node of a row at this value."""
        if not row.masked:
            return row.settings
        groups = self.heads if self.groups == "heads" else self.groups
        deep = row.reads_tokens and row.rung != "content"
        return {**row.settings, "groups": groups, **(self.mask if deep else {})}


@dataclass(frozen=True)
class Probe:
    """One question with one knob.

    asks: what it isolates. knob: its name. searched: the label of the value at which masks' rates are searched.
    floor: the answers of a reader that cannot do what the probe asks for; None if there is no such reader.
    threshold: percent; the steps until it is reached are counted.
    """

    name: str
    title: str
    asks: str
    knob: str
    values: Sequence[Value]
    searched: str
    floor: Callable[[Batch], Tensor] | None = data.most_frequent
    threshold: float = 90.0

    def value(self, label: str) -> Value:
        """The value of a label. KeyError for an unknown one."""
        return {value.label: value for value in self.values}[label]

    def canonical(self, value: Value, row: Row) -> Value:
        """The first value at which the row is the same model with the same training: a row is run once for all values
        that mean the same to it (no mask has no depth)."""
        return next(other for other in self.values if same(other, row) == same(value, row))


def same(value: Value, row: Row) -> tuple:
    """What a value means to a row."""
    return value.draw, value.steps, value.positions, value.pool, value.heads, value.settings(row)


FIXED = partial(data.pointer, "fixed")
XOR_DEPTHS = [(depth, init) for init in ("identity", "default") for depth in (1, 2, 3, 8, 32)]
COLUMNS, PERMUTED = data.columns, partial(data.columns, permuted=True)

PROBES = (
    Probe(
        "fixed",
        "P1, a fixed place",
        "Can a mask give access to a place if tokens have no positions, and does it matter if they have?",
        "positions",
        [Value("off", FIXED, 160), Value("on", FIXED, 240, positions=True)],
        "off",
    ),
    Probe(
        "query",
        "P2, a place that the query token names",
        "Does a mask need the context of the query? In a share of the samples the named place is the same one.",
        "share of samples with a fixed place",
        [Value(f"{share:g}", partial(data.pointer, "query", share=share), 160) for share in (0.0, 0.5, 1.0)],
        "0",
    ),
    Probe(
        "hop",
        "P3, a place that other tokens name",
        "Does a mask of each layer's own input see more than one of raw tokens? Two notes name the place together, as "
        "a + b mod N, so that no raw token knows it.",
        "notes",
        [Value("1", partial(data.hop, 1), 600), Value("2", partial(data.hop, 2), 1500)],
        "2",
    ),
    Probe(
        "mark",
        "P4, a marked key at a random place",
        "Can a mask help to find a key by its content? The mark is too weak for the ceiling.",
        "strength of the mark",
        [Value(f"{mark:g}", partial(data.marked, mark), 160) for mark in (0.02, 0.05, 0.2)],
        "0.05",
    ),
    Probe(
        "columns",
        "P5, noise at fixed columns",
        "Does a mask save training samples if the same columns are noise in all of them?",
        "training samples",
        [Value(f"{size}", COLUMNS, 160, positions=True, pool=size) for size in (100, 300, 1000, 10000)],
        "300",
        floor=None,
        threshold=70.0,
    ),
    Probe(
        "permuted",
        "P6, the same with columns in random order",
        "Does a mask prioritise tokens, or columns? Tokens and positions are permuted together, sample by sample.",
        "permuted",
        [
            Value("no", COLUMNS, 160, positions=True, pool=300),
            Value("yes", PERMUTED, 160, positions=True, pool=300),
        ],
        "yes",
        floor=None,
        threshold=70.0,
    ),
    Probe(
        "xor",
        "P7, a place that is the exclusive or of two features",
        "How deep must the mask's network be, and how must it start?",
        "depth and initialisation of the mask",
        [
            Value(f"{depth}, {init}", data.exclusive_or, 240, mask={"depth": depth, "init": init})
            for depth, init in XOR_DEPTHS
        ],
        "3, identity",
        floor=data.one_of_two,
    ),
    Probe(
        "two",
        "P8, two places at once",
        "Can one mask for all heads show a query two places, or does it need one per head?",
        "masks per layer, head width",
        [
            Value("1, 4", data.two_places, 240, heads=8),
            Value("heads, 4", data.two_places, 240, heads=8, groups="heads"),
            Value("1, 16", data.two_places, 240, heads=2),
            Value("heads, 16", data.two_places, 240, heads=2, groups="heads"),
            Value("1, 32", data.two_places, 240, heads=1),
            Value("1, 16, with positions", data.two_places, 240, heads=2, positions=True),
        ],
        "1, 16",
    ),
)


def named(names: Iterable[str] | None) -> Sequence[Probe]:
    """The probes of these names, all without names. ConfigError for an unknown one."""
    if names is None:
        return PROBES
    names, allowed = list(names), [probe.name for probe in PROBES]
    for name in names:
        if name not in allowed:
            raise ConfigError(f"--probe: there is no {name!r}{nearest(name, allowed)}; allowed: {listed(allowed)}")
    return [probe for probe in PROBES if probe.name in names]
