"""The claims of the paper and of its reviewers, as differences that runs can show. Written before the runs.

Labels of rows are those of the tables (scripts.table) and of the probes (scripts.studies.probes).
"""

from dataclasses import dataclass
from typing import Literal

from scripts.studies.claims import studies as s
from scripts.studies.claims.studies import Study

FULL, SINGLE, MULTI, TABLE = "full attention", "LCAAM", "Multi-LCAAM", "static table"
OFFSETS = "offset table"
ROTARY = "language model, rotary positions, add"
Pair = tuple[str, str]


@dataclass(frozen=True)
class OfTable:
    """A difference of a table's primary metric: row minus against. less: a second pair, whose difference is taken off,
    for a claim on how a gain changes. where: the data, and what else is special, in words. new_seeds: the first
    row had not been run with these seeds when the claim was made."""

    where: str
    study: Study
    pair: Pair
    less: Pair | None = None
    new_seeds: bool = False


@dataclass(frozen=True)
class OfProbe:
    """A difference of a probe's score at one value of its knob."""

    where: str
    probe: str
    value: str
    pair: Pair


@dataclass(frozen=True)
class Claim:
    """name: short, for links. source: who says so. says: the claim. asked: the differences that it is about.

    kind: "better" if the claim is that the difference is a gain; "same" if it is that there is none either way.
    """

    name: str
    source: str
    says: str
    asked: tuple[OfTable | OfProbe, ...]
    kind: Literal["better", "same"] = "better"


def everywhere(pair: Pair, text: Pair | None = None, images: Pair | None = None) -> tuple[OfTable, ...]:
    """The same two rows in all tasks. text, images: how the language model and CIFAR-10 call them."""
    found = [
        OfTable("audio description", s.AD_HEADLINE, pair),
        OfTable("moment retrieval", s.MR_HEADLINE, pair),
        OfTable("video captioning", s.VC_HEADLINE, pair),
        OfTable("image classification, generated", s.IC_HEADLINE, pair),
    ]
    found += [] if images is None else [OfTable("CIFAR-10, 45k images", s.CIFAR10, images)]
    found += [] if text is None else [OfTable(f"language model, {text[0].rpartition(', ')[2]}", s.LANGUAGE, text)]
    return tuple(found)


def cifar(pair: Pair, images: str = "45k images") -> Pair:
    return f"{pair[0]}, {images}", f"{pair[1]}, {images}"


def added(row: str) -> str:
    return f"{row}, add"


def offsets_against(row: str, text: str) -> tuple[OfTable, ...]:
    """Offsets minus another row wherever they were asked for. text: how the language model calls that row."""
    return (
        OfTable("audio description", s.LADDER_AGAIN, (OFFSETS, row), new_seeds=True),
        OfTable("language model, add", s.LANGUAGE, (added(OFFSETS), text)),
        OfTable(ROTARY, s.ROTARY, (added(OFFSETS), text)),
    )


CLAIMS = (
    Claim(
        "a-mask-per-layer",
        "Table 1",
        "A mask for each layer (Multi-LCAAM) is better than full attention.",
        (
            *everywhere((MULTI, FULL), (added(MULTI), FULL), cifar((MULTI, FULL))),
            OfTable("language model, mul", s.LANGUAGE, ("Multi-LCAAM, mul", FULL)),
        ),
    ),
    Claim(
        "one-mask",
        "Table 1",
        "One mask for all layers (LCAAM) is better than full attention.",
        (
            *everywhere((SINGLE, FULL), ("LCAAM, mul", FULL), cifar((SINGLE, FULL))),
            OfTable("language model, add", s.AGAIN, (added(SINGLE), FULL), new_seeds=True),
            OfTable(ROTARY, s.ROTARY, (added(SINGLE), FULL)),
        ),
    ),
    Claim(
        "multi-over-single",
        "Tables 1 and 2",
        "A mask for each layer is better than one mask for all layers.",
        everywhere((MULTI, SINGLE), (added(MULTI), added(SINGLE)), cifar((MULTI, SINGLE))),
    ),
    Claim(
        "context-over-static",
        "Table 2",
        "A mask that reads its input is better than a table of numbers that does not, each at its own rate.",
        (
            *everywhere((MULTI, TABLE), (added(MULTI), added(TABLE)), cifar((MULTI, TABLE))),
            OfProbe("probe: a fixed place, no positions", "fixed", "off", ("multi_lcaam-add", "table-add")),
            OfProbe("probe: the query names the place", "query", "0", ("multi_lcaam-add", "table-add")),
            OfProbe("probe: noise in fixed columns, 300 samples", "columns", "300", ("multi_lcaam-add", "table-add")),
        ),
    ),
    Claim(
        "dynamic",
        "the title and section 3",
        "The mask follows its input: the trained mask is better than its own mean over inputs.",
        (
            *everywhere((MULTI, f"{MULTI}, frozen")),
            OfTable("language model, add", s.AGAIN, (added(SINGLE), f"{added(SINGLE)}, frozen")),
            OfProbe(
                "probe: a fixed place, no positions", "fixed", "off", ("multi_lcaam-add", "frozen multi_lcaam-add")
            ),
            OfProbe("probe: the query names the place", "query", "0", ("multi_lcaam-add", "frozen multi_lcaam-add")),
        ),
    ),
    Claim(
        "more-than-parameters",
        "Table 3",
        "The gain is not one of parameters: the mask is better than as many parameters elsewhere.",
        (
            OfTable("audio description, linear layers", s.CONTROLS, (MULTI, "extra linear layers")),
            OfTable("audio description, encoder layers", s.CONTROLS, (MULTI, "extra encoder layers")),
            OfTable("language model, linear layers", s.LANGUAGE, (added(MULTI), "extra linear layers")),
            OfTable("language model, layers", s.LANGUAGE, (added(MULTI), "extra encoder layers")),
        ),
    ),
    Claim(
        "grows-with-data",
        "Table 5",
        "The gain of a mask grows with the number of training samples.",
        (
            OfTable(
                "CIFAR-10, 45k against 500 images", s.CIFAR10, cifar((MULTI, FULL)), cifar((MULTI, FULL), "500 images")
            ),
            OfTable("CIFAR-10, LCAAM", s.CIFAR10, cifar((SINGLE, FULL)), cifar((SINGLE, FULL), "500 images")),
        ),
    ),
    Claim(
        "depth",
        "Figure S4",
        "Deeper mask networks are better: 32 linear layers against one.",
        (
            OfTable("moment retrieval, add", s.DEPTH, ("LCAAM, add, depth 32", "LCAAM, add, depth 1")),
            OfTable("moment retrieval, mul", s.DEPTH, ("LCAAM, mul, depth 32", "LCAAM, mul, depth 1")),
        ),
    ),
    Claim(
        "prioritises-tokens",
        "Figures S5 to S9",
        "The mask finds the tokens that matter, wherever they are.",
        (
            OfProbe("probe: a marked key at a random place", "mark", "0.05", ("multi_lcaam-add", "none")),
            OfProbe("probe: the same, mul", "mark", "0.05", ("multi_lcaam-mul", "none")),
            OfProbe("probe: informative columns at permuted places", "permuted", "yes", ("multi_lcaam-add", "none")),
            OfProbe("probe: the same, mul", "permuted", "yes", ("multi_lcaam-mul", "none")),
        ),
    ),
    Claim(
        "columns",
        "not in the paper",
        "The mask finds the columns that matter, if they are always the same.",
        (
            OfProbe("probe: a fixed place, no positions", "fixed", "off", ("multi_lcaam-add", "none")),
            OfProbe("probe: a fixed place, with positions", "fixed", "on", ("multi_lcaam-add", "none")),
            OfProbe("probe: noise in fixed columns, 100 samples", "columns", "100", ("multi_lcaam-add", "none")),
            OfProbe("probe: noise in fixed columns, 300 samples", "columns", "300", ("multi_lcaam-add", "none")),
            OfProbe("probe: noise in fixed columns, 10,000 samples", "columns", "10000", ("multi_lcaam-add", "none")),
        ),
    ),
    Claim(
        "offsets",
        "not in the paper",
        "A number for each offset between key and query, which reads nothing, is better than full attention.",
        offsets_against(FULL, FULL),
    ),
    Claim(
        "offsets-over-mask",
        "not in the paper",
        "Such offsets are better than one mask for all layers, which reads its input (LCAAM).",
        offsets_against(SINGLE, added(SINGLE)),
    ),
    Claim(
        "two-modalities",
        "the title and Table 1",
        "The mask helps more with two modalities than with one.",
        (
            OfTable(
                "audio description, both tracks against pictures",
                s.MODALITIES,
                ("Multi-LCAAM, both tracks", "full attention, both tracks"),
                ("Multi-LCAAM, pictures alone", "full attention, pictures alone"),
            ),
            OfTable(
                "audio description, both tracks against sound",
                s.MODALITIES,
                ("Multi-LCAAM, both tracks", "full attention, both tracks"),
                ("Multi-LCAAM, sound alone", "full attention, sound alone"),
            ),
        ),
    ),
    Claim(
        "unstable",
        "a reviewer",
        "With more keys a multiplied mask becomes unstable: it loses against full attention.",
        (
            OfTable("language model, 1,024 keys", s.KEYS, ("1,024 keys, full attention", "1,024 keys, Multi-LCAAM")),
            OfTable("language model, 256 keys", s.KEYS, ("256 keys, full attention", "256 keys, Multi-LCAAM")),
        ),
    ),
    Claim(
        "any-length",
        "a reviewer's question",
        "Masks that take any number of keys are as good as the paper's fixed ones.",
        (
            OfTable(
                "audio description, content", s.LENGTH, ("Multi-LCAAM, length content", "Multi-LCAAM, length fixed")
            ),
            OfTable(
                "audio description, interpolated",
                s.LENGTH,
                ("Multi-LCAAM, length interpolate", "Multi-LCAAM, length fixed"),
            ),
            OfTable(
                "moment retrieval, content",
                s.LENGTH_MOMENTS,
                ("Multi-LCAAM, length content", "Multi-LCAAM, length fixed"),
            ),
        ),
        kind="same",
    ),
)
