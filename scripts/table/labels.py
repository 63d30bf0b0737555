"""Readable names of a sweep's rows: `experiment=madv2_lcaam mask.fusion=gate mask.depth=3` -> "LCAAM, gate, depth 3".

Only what sets rows apart is named. The sweep's YAML may give words of its own (`table.labels`).
"""

from collections.abc import Mapping, Sequence

from configs.command_line import MARK, unmarked

NAMES = {  # of mask=, and of the ends of experiments' names
    "baseline": "full attention",
    "none": "full attention",
    "lcaam": "LCAAM",
    "multi_lcaam": "Multi-LCAAM",
    "content": "Multi-LCAAM with content",
    "static_swinbert": "SwinBERT's static table",
    "static_logsigmoid": "static table, log sigmoid",
    "temperature": "temperature",
    "blocks": "block table",
    "columns": "column bias",
    "offsets": "offset table",
    "table": "static table",
    "span": "adaptive span",
    "extra_linear": "extra linear layers",
    "extra_layers": "extra encoder layers",
}
KINDS = ("experiment", "mask")  # keys whose values are in NAMES
SCOPES = {"shared": "one mask", "tied": "one module for all layers", "per_layer": "a mask per layer"}
ALONE = ("mask.fusion",)  # keys whose values need no name before them


def labels_of(rows: Sequence[Sequence[str]], own: Mapping[str, str]) -> list[str]:
    """A label per row. rows: their overrides; own: words by override, which win; "" leaves an override out.

    An override that all rows have is left out; a row of nothing else is named by its choice of mask or experiment.
    Beside a mask of its own, an experiment without one goes without saying.
    """
    plain = [unmarked(row) for row in rows]
    shared = set.intersection(*map(set, plain))
    found = []
    for row in plain:
        masked = any(one.startswith("mask=") and one not in shared for one in row)
        plain_attention = [one for one in row if masked and one.startswith("experiment=") and one.endswith("_baseline")]
        parts = [word_of(one, own) for one in row if one not in shared and one not in plain_attention]
        if not any(parts):
            parts = [word_of(one, own) for one in row if one.split("=")[0] in KINDS] or row
        found.append(", ".join(filter(None, parts)) or " ".join(row))
    return found


def word_of(override: str, own: Mapping[str, str]) -> str:
    """The words for one override."""
    if override in own:
        return own[override]
    key, _, value = override.removeprefix(MARK).partition("=")
    if key in KINDS:
        ends = [name for name in NAMES if value == name or value.endswith(f"_{name}")]
        return NAMES[max(ends, key=len)] if ends else value.replace("_", " ")
    if key == "mask.scope":
        return SCOPES.get(value, value)
    return value if key in ALONE else f"{key.rpartition('.')[2].replace('_', ' ')} {value}"


def parts_of(label: str) -> list[str]:
    return label.split(", ")
