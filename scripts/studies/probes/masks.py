"""The rows of every probe: the ladder of masks with both fusions, and relatives from the literature.

>>> chosen(["lcaam", "multi_lcaam-add"])  # of a rung all its fusions, or one of them

A row's rung is that of lcaam.ladder. `blocks` is left out: no probe has tokens of two modalities.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from configs.errors import ConfigError, listed, nearest

MASK = {"depth": 3, "hidden": 32, "init": "identity"}  # of masks that read tokens, if a probe does not change it
LABELS = {
    "none": "no mask",
    "table": "static table",
    "lcaam": "LCAAM",
    "multi_lcaam": "Multi-LCAAM",
    "content": "content of keys",
    "entmax": "entmax-1.5",
    "causal": "no mask, causal",
    "cope": "CoPE, causal",
}


@dataclass(frozen=True)
class Row:
    """A mask, or a relative, in every probe.

    rung: its name. fusion: "" for what has no mask. settings: the `mask` node of a configuration.
    reads_tokens: whether the mask is the paper's network, which has a depth and an initialisation.
    causal: each token sees those before it, and the query token comes last. own_rate: whether it has parameters of its
    own, with a learning rate of their own. against: the rung of the row that its gain is compared with.
    """

    rung: str
    fusion: str = ""
    settings: dict[str, Any] = field(default_factory=lambda: {"scope": "none"}, hash=False)
    causal: bool = False
    against: str = "none"

    @property
    def name(self) -> str:
        return f"{self.rung}-{self.fusion}" if self.fusion else self.rung

    @property
    def label(self) -> str:
        return LABELS.get(self.rung, self.rung) + (f", {self.fusion}" if self.fusion else "")

    @property
    def scope(self) -> str:
        return self.settings["scope"]

    @property
    def masked(self) -> bool:
        return self.scope != "none"

    @property
    def reads_tokens(self) -> bool:
        return self.settings.get("kind") == "context"

    @property
    def own_rate(self) -> bool:
        return self.masked or self.rung == "cope"


def ladder(fusion: str) -> list[Row]:
    """The rungs that have a form for a fusion, from the lowest on."""
    kinds = {"add": ("span", "columns", "offsets", "table"), "mul": ("temperature", "columns", "offsets", "table")}
    static = [{"kind": kind, "scope": "per_layer"} | ({"ramp": 4} if kind == "span" else {}) for kind in kinds[fusion]]
    rows = [(settings["kind"], settings) for settings in static]
    for rung, scope, length in (
        ("lcaam", "shared", "fixed"),
        ("multi_lcaam", "per_layer", "fixed"),
        ("content", "per_layer", "content"),
    ):
        rows.append((rung, {"kind": "context", "scope": scope, "length": length, **MASK}))
    return [Row(rung, fusion, {**settings, "fusion": fusion}) for rung, settings in rows]


ROWS = (
    Row("none"),
    *ladder("add"),
    *ladder("mul"),
    Row("entmax"),
    Row("causal", causal=True),
    Row("cope", causal=True, against="causal"),
)


def chosen(names: Iterable[str] | None) -> Sequence[Row]:
    """The rows of these names (a rung, or a rung and a fusion), and no mask, with which all are compared; all without
    names. ConfigError for an unknown one."""
    if names is None:
        return ROWS
    names = list(names)
    allowed = [*dict.fromkeys(row.rung for row in ROWS), *(row.name for row in ROWS if row.fusion)]
    for name in names:
        if name not in allowed:
            raise ConfigError(f"--masks: there is no {name!r}{nearest(name, allowed)}; allowed: {listed(allowed)}")
    wanted = {row.name for row in ROWS if row.rung in ("none", *names) or row.name in names}
    wanted |= {row.against for row in ROWS if row.name in wanted}
    return [row for row in ROWS if row.name in wanted]
