"""What the page says about the attention benchmark: tables of ratios, auto's worst case, the plot."""

from collections import defaultdict
from itertools import product
from pathlib import Path

from scripts.benchmarks.attention_rivals import BATCHES, EAGER, FUSIONS, GPU_BATCHES, GPU_LENGTHS, LENGTHS, RIVALS

Cells = dict[tuple[int, int, str, bool], dict[str, dict]]  # rows by length, batch, fusion, gradients; then by rival


def by_cell(result: dict) -> Cells:
    cells: Cells = defaultdict(dict)
    for row in result["rows"]:
        cells[row["length"], row["batch"], row["fusion"], row["gradients"]][row["rival"]] = row
    return dict(sorted(cells.items()))


def ratio(row: dict | None) -> float | None:
    """Times plain SDPA in the same turns; None for what was not measured."""
    return None if row is None or row["seconds"] is None else row["seconds"] / row["plain"]


def of_best(rows: dict[str, dict], rival: str, others: tuple[str, ...]) -> float | None:
    """A rival's time by the best of others; rows that were measured in another run are compared by their ratios."""
    mine = ratio(rows.get(rival))
    theirs = [value for name in others if (value := ratio(rows.get(name))) is not None]
    return None if mine is None or not theirs else mine / min(theirs)


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def table(cells: Cells, gradients: bool) -> str:
    rivals = [name for name in RIVALS if name != "plain"]
    rivals = [
        name for name in rivals if any(ratio(rows.get(name)) for key, rows in cells.items() if key[3] == gradients)
    ]
    lines = [
        f"| N | B | fusion | plain, ms | {' | '.join(rivals)} | auto takes | auto / best eager |",
        "|" + "---|" * (len(rivals) + 6),
    ]
    for (length, batch, fusion, with_gradients), rows in cells.items():
        if with_gradients != gradients or ratio(rows.get("plain")) is None:
            continue
        ratios = " | ".join(shown(ratio(rows.get(name))) for name in rivals)
        auto = f"{rows.get('auto', {}).get('choice', '')} | {shown(of_best(rows, 'auto', EAGER))}"
        lines.append(f"| {length} | {batch} | {fusion} | {1000 * rows['plain']['seconds']:.1f} | {ratios} | {auto} |")
    return "\n".join(lines)


def memory_table(cells: Cells) -> str:
    """Peaks with gradients, in MiB."""
    measured = {key: rows for key, rows in cells.items() if any("peak_bytes" in row for row in rows.values())}
    rivals = [name for name in RIVALS if any("peak_bytes" in rows.get(name, {}) for rows in measured.values())]
    lines = [f"| N | fusion | {' | '.join(rivals)} |", "|" + "---|" * (len(rivals) + 2)]
    for (length, _, fusion, _), rows in measured.items():
        peaks = [rows.get(name, {}).get("peak_bytes") for name in rivals]
        lines.append(f"| {length} | {fusion} | {' | '.join('' if p is None else f'{p / 2**20:,.0f}' for p in peaks)} |")
    return "\n".join(lines) if measured else ""


def place(cell: tuple[int, int, str, bool]) -> str:
    length, batch, fusion, gradients = cell
    return f"N = {length}, B = {batch}, {fusion}, {'with' if gradients else 'without'} gradients"


def worst(cells: Cells, rival: str, others: tuple[str, ...]) -> tuple[float, str] | None:
    found = [
        (value, place(cell)) for cell, rows in cells.items() if (value := of_best(rows, rival, others)) is not None
    ]
    return max(found, default=None)


def sentences(cells: Cells) -> list[str]:
    """The worst cases, as they were measured."""
    said = []
    for gradients in (True, False):
        some = {cell: rows for cell, rows in cells.items() if cell[3] == gradients}
        if case := worst(some, "auto", EAGER):
            values = [value for rows in some.values() if (value := of_best(rows, "auto", EAGER)) is not None]
            close = sum(value <= 1.1 for value in values)
            said.append(
                f"- **auto, {'with' if gradients else 'without'} gradients**: at worst {case[0]:.2f} times the best "
                f"eager way ({case[1]}); within 10 % of it in {close} of {len(values)} cases."
            )
    if case := worst(cells, "compiled lcaam", ("compiled",)):
        said.append(f"- **compiled**: at worst {case[0]:.2f} times the compiled equation ({case[1]}).")
    limits = [
        (value, place(cell))
        for cell, rows in cells.items()
        if cell[3] and (value := ratio(rows.get("auto"))) is not None
    ]
    if limits:
        said.append(
            f"- **beside no mask at all**, with gradients: auto takes {min(limits)[0]:.2f} times plain SDPA at best "
            f"({min(limits)[1]}) and {max(limits)[0]:.2f} at worst ({max(limits)[1]})."
        )
    return said


def reasons(result: dict) -> list[str]:
    """Each reason for which something was not measured, with how often."""
    counts: dict[str, int] = defaultdict(int)
    for row in result["rows"]:
        if "skipped" in row:
            counts[f"{row['rival']}: {row['skipped']}"] += 1
    return [f"- {reason} ({count} cells)" for reason, count in sorted(counts.items())]


def absent(cells: Cells, on_gpu: bool) -> list[str]:
    """What a whole run goes through and this result does not have yet."""
    found = []
    for length, batch in product(*((GPU_LENGTHS, GPU_BATCHES) if on_gpu else (LENGTHS, BATCHES))):
        missing = [f for f in FUSIONS if not {(length, batch, f, True), (length, batch, f, False)} <= cells.keys()]
        if missing:
            found.append(f"- N = {length}, B = {batch}: {', '.join(missing)}; the run has not come to it yet")
    return found


def block(result: dict, figure: str) -> str:
    """The text between the marks of the page. figure: the plot's path relative to the page."""
    cells = by_cell(result)
    there = {name for rows in cells.values() for name in rows}
    parts = [
        "\n".join(f"    {command}" for command in result["commands"]),
        f"{result['machine']}, {result['threads']} thread, torch {result['torch']}; {result['heads']} heads of width "
        f"{result['width']}, one mask of rank {result['rank']} for all heads. Numbers are times plain SDPA (no mask) "
        "in the same turns; below 1 is faster than no mask.",
        "\n".join(f"- `{name}`: {what}" for name, what in RIVALS.items() if name in there),
        "Worst cases:",
        "\n".join(sentences(cells)),
        "Forward and backward:",
        table(cells, True),
        "Forward without gradients:",
        table(cells, False),
    ]
    if peaks := memory_table(cells):
        parts += ["Peak memory of forward and backward, MiB, B = 1:", peaks]
    if why := absent(cells, result["device"] == "cuda") + reasons(result):
        parts += ["Not measured:", "\n".join(why)]
    return "\n\n".join([*parts, f'<img src="{figure}" width="900" alt="Times of attention with masks by length">'])


def plot(result: dict, path: Path) -> None:
    """Draws times relative to plain SDPA over the length, B = the smallest: a column per fusion, a row per mode."""
    from matplotlib.figure import Figure

    cells = by_cell(result)
    fusions = list(dict.fromkeys(cell[2] for cell in cells))
    least = min(cell[1] for cell in cells)
    figure = Figure(figsize=(3 * len(fusions) + 2, 5.4), layout="constrained")
    panels = figure.subplots(2, len(fusions), squeeze=False, sharex=True, sharey="row")
    for column, fusion in enumerate(fusions):
        for panel, gradients in zip(panels[:, column], (True, False), strict=True):
            for name in [name for name in RIVALS if name != "plain"]:
                points = [
                    (cell[0], value)
                    for cell, rows in cells.items()
                    if cell[1:] == (least, fusion, gradients) and (value := ratio(rows.get(name))) is not None
                ]
                line = "--" if name == "auto" else "-"
                panel.plot([x for x, _ in points], [y for _, y in points], line, marker="o", markersize=3, label=name)
            panel.axhline(1.0, color="grey", linewidth=0.8)
            panel.set(xscale="log", yscale="log")
        panels[0, column].set_title(fusion)
        panels[1, column].set_xlabel("tokens N")
    panels[0, 0].set_ylabel("forward + backward / plain SDPA")
    panels[1, 0].set_ylabel("forward / plain SDPA")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.savefig(path, dpi=150)
