"""What was counted and measured, as markdown."""

from collections.abc import Iterable
from typing import Any

from scripts.report import markdown

M, MS, MIB = 1e6, 1e-3, 2**20
PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
MISSING = "-"


def prefix(values: Iterable[float], most: str = "G") -> str:
    """The largest one, up to `most`, with which the largest value is not below 1."""
    largest = min(max(values), PREFIXES[most])
    return [name for name, unit in PREFIXES.items() if unit <= max(1.0, largest)][-1]


def number(value: float | None, unit: float, digits: int = 3) -> str:
    return MISSING if value is None else f"{value / unit:,.{digits}f}"


def more(value: float | None, unit: float) -> str:
    """A difference to the row without a mask."""
    return MISSING if value is None else f"{value / unit:+,.3f}"


def share(part: float | None, whole: float) -> str:
    return MISSING if part is None else f"{100 * part / whole:.2f} %"


def percent_off(value: float, reference: float | None) -> str:
    return MISSING if reference is None else f"{100 * (value / reference - 1):+.2f} %"


def tables(family: dict[str, Any]) -> str:
    """All that is known about one experiment."""
    text = f"## {family['experiment']}, scale {family['scale']}\n\n"
    if family["overrides"]:
        text += f"With {' '.join(f'`{override}`' for override in family['overrides'])}. "
    text += f"FLOPs of one forward pass of one sample: {family['sample']}.\n\n"
    text += costs(family["rows"]) + "\n" + by_module(family["rows"])
    if family["paper"]:
        text += "\nBeside the paper's Tables 3 and 4:\n\n" + beside_paper(family["rows"], family["paper"])
        text += "\n" + "".join(f"- {line}\n" for line in family["conventions"])
    if any(row["latency"] for row in family["rows"]):
        text += "\n" + latencies(family["rows"])
    return text


def costs(rows: list[dict[str, Any]]) -> str:
    parts = [part for part in rows[0]["parameters"] if any(row["parameters"][part] for row in rows)]
    p, f = prefix((row["total"] for row in rows), most="M"), prefix(row["flops"] for row in rows)
    one, flop = PREFIXES[p], PREFIXES[f]
    header = ["mask", *(f"{part.replace('_', ' ')}, {p}" for part in parts), f"all, {p}", "above none"]
    header += [f"{f}FLOPs", "above none", "share", f"{f}MACs"]
    lines = []
    for row in rows:
        line = [row["row"], *(number(row["parameters"][part], one) for part in parts)]
        line += [number(row["total"], one), more(row["more_parameters"], one), number(row["flops"], flop)]
        line += [more(row["more_flops"], flop), share(row["more_flops"], row["flops"]), number(row["macs"], flop)]
        lines.append(line)
    return markdown(header, lines)


def by_module(rows: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row["flops_by_module"]))
    f = prefix(row["flops"] for row in rows)
    spent = [[number(row["flops_by_module"].get(name, 0), PREFIXES[f]) for name in names] for row in rows]
    return markdown([f"{f}FLOPs in", *names], [[row["row"], *cells] for row, cells in zip(rows, spent, strict=True)])


def beside_paper(rows: list[dict[str, Any]], paper: dict[str, list[float | None]]) -> str:
    header = ["mask", "parameters, M", "paper", "off by", "TFLOPs", "paper", "off by", "TMACs", "paper", "off by"]
    lines = []
    for row in rows:
        theirs = paper.get(row["row"], [None] * 4)
        line = [row["row"]]
        for ours, value, unit, digits in (
            (row["total"], theirs[0], M, 0),
            (row["flops"], theirs[1], 1e12, 2),
            (row["macs"], theirs[2], 1e12, 2),
        ):
            line += [number(ours, unit, digits + 1), number(value, unit, digits), percent_off(ours, value)]
        lines.append([*line, number(theirs[3], 1, 2), measured(row)])
    return markdown([*header, "paper, ms", "here, ms"], lines)


def measured(row: dict[str, Any]) -> str:
    """The whole model's forward pass in milliseconds."""
    forward = (row["latency"] or {"calls": {}})["calls"].get("forward")
    return "not measured" if forward is None else number(forward["median"], MS, 2)


def latencies(rows: list[dict[str, Any]]) -> str:
    header = ["mask", "call", "median, ms", "of none in turns", "p90, ms", "peak memory, MiB", "weights, MiB"]
    lines, reasons = [], []
    for row in rows:
        found = row["latency"]
        if found["not_measured"]:
            reasons.append(f"{row['row']} ({found['not_measured']})")
        for name, call in found["calls"].items():
            line = [row["row"], name, number(call["median"], MS, 2), number(call["of_beside"], 1)]
            line.append(number(call["p90"], MS, 2))
            lines.append([*line, number(call["peak_bytes"], MIB, 1), number(found["weight_bytes"], MIB, 1)])
        if not found["calls"]:
            lines.append([row["row"], "forward", *["not measured"] * 3, MISSING, MISSING])
    text = markdown(header, lines)
    if reasons:
        text += f"\nNot measured as a whole: {'; '.join(reasons)}.\n"
    return text
