"""The figure that a sweep asks for in `table.figure`: quality over a setting, a line per value of another one.

    figure: {x: mask.depth, y: mAP, by: mask.fusion, scale: log}        the paper's Figure S4
    figure: {x: data.fraction, y: top1, by: experiment}                 its Table 5 as a curve

`x` and `by` are keys of a run's configuration, or of the sweep such as `mask` and `experiment`. A setting without `x`
(a baseline) is a line across.
"""

from typing import Any

from scripts.page.blocks import Chart, Note, Part
from scripts.page.theme import across, band, figure, mark, plain, room, tall
from scripts.table.labels import word_of
from scripts.table.summary import Row, Table
from scripts.table.words import number


def sweep_figure(table: Table) -> Part | None:
    """None if the sweep asks for no figure."""
    if not table.figure:
        return None
    asked = {"y": table.primary, "by": None, "scale": "linear", **table.figure}
    points = lines_of(table, asked)
    if not points:
        return Part(
            "Figure", [Note(f"The sweep asks for {asked['y']} over {asked['x']}: no run that counts has both.")]
        )
    title = f"{asked['y']} over {asked['x']}" + (f", by {asked['by']}" if asked["by"] else "")
    return Part("Figure", [drawn(table, asked, points, f"{title}: mean and range over seeds")])


def value_of(row: Row, key: str) -> Any:
    """What a row's runs have for a key; None if they have none."""
    for word in row.overrides:
        name, _, value = word.lstrip("+~").partition("=")
        if name == key:
            return as_number(value)
    for run in row.runs.values():
        found: Any = run
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if found is not None:
            return found
    return None


def as_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def lines_of(table: Table, asked: dict[str, Any]) -> dict[str, list[tuple[float | None, Row]]]:
    """The rows that have runs by value of `by`, each with its `x`."""
    points: dict[str, list[tuple[float | None, Row]]] = {}
    for row in table.rows:
        if not row.values(asked["y"]):
            continue
        x = value_of(row, asked["x"])
        found = x if isinstance(x, (int, float)) and not isinstance(x, bool) else None
        if varies_without(table, row, asked["x"]):
            found = None
        points.setdefault(row.label if found is None else line_of(row, asked), []).append((found, row))
    return points if any(x is not None for found in points.values() for x, _ in found) else {}


def line_of(row: Row, asked: dict[str, Any]) -> str:
    """The name of the line that a row's point is on: what it has for `by`, as labels name it."""
    if asked["by"] is None:
        return asked["y"]
    value = value_of(row, asked["by"])
    return word_of(f"{asked['by']}={value:g}" if isinstance(value, float) else f"{asked['by']}={value}", {})


def varies_without(table: Table, row: Row, key: str) -> bool:
    """Whether the sweep sets `key` in other rows but not in this one: its own value then means nothing here."""
    sets = [any(word.lstrip("+~").partition("=")[0] == key for word in other.overrides) for other in table.rows]
    return any(sets) and not sets[table.rows.index(row)]


def drawn(table: Table, asked: dict[str, Any], points: dict[str, list[tuple[float | None, Row]]], title: str) -> Chart:
    traces, told, everywhere = [], [], [x for found in points.values() for x, _ in found if x is not None]
    ends = (min(everywhere), max(everywhere))
    for place, (by, found) in enumerate(points.items()):
        own, label = mark(place), str(by)
        if all(x is None for x, _ in found):
            mean = sum(seeds := list(found[0][1].values(asked["y"]).values())) / len(seeds)
            traces.append(across(mean, label, ends, "dash"))
            told.append(f"{label} {number(mean)}")
            continue
        ordered = sorted(((x, row.values(asked["y"])) for x, row in found if x is not None), key=lambda pair: pair[0])
        steps = [x for x, _ in ordered]
        means = [sum(seeds.values()) / len(seeds) for _, seeds in ordered]
        if any(len(seeds) > 1 for _, seeds in ordered):
            low, high = ([choose(seeds.values()) for _, seeds in ordered] for choose in (min, max))
            traces.append(band(steps, low, high, own.faint, label))
        traces.append(
            {
                "type": "scatter",
                "x": steps,
                "y": means,
                "mode": "lines+markers",
                "line": {"color": own.colour, "dash": own.dash, "width": 2},
                "marker": {"symbol": own.symbol, "size": 8},
                "name": plain(label),
                "legendgroup": label,
                "customdata": [[plain(label), len(seeds)] for _, seeds in ordered],
                "hovertemplate": "%{customdata[0]}, %{x}: %{y:.4g} (%{customdata[1]} seeds)<extra></extra>",
            }
        )
        traces.append(
            {
                "type": "scatter",
                "x": [x for x, seeds in ordered for _ in seeds],
                "y": [value for _, seeds in ordered for value in seeds.values()],
                "mode": "markers",
                "marker": {"color": own.colour, "symbol": own.symbol, "size": 5, "opacity": 0.6},
                "name": plain(label),
                "legendgroup": label,
                "showlegend": False,
                "customdata": [f"seed {seed}" for _, seeds in ordered for seed in seeds],
                "hovertemplate": "%{customdata}: %{y:.4g}<extra></extra>",
            }
        )
        told.append(f"{label}: " + ", ".join(f"{x:g} {number(m)}" for x, m in zip(steps, means, strict=True)))
    shown = room(y for trace in traces for y in trace["y"])
    for turn, (kind, scores) in enumerate(table.floors.items()):
        if (level := scores.get(asked["y"])) is not None:
            line = across(level, kind.replace("_", " "), ends, ("dot", "dashdot", "longdash")[turn % 3])
            # a ceiling far above would press all curves into one line: a click in the legend shows it
            traces.append(line if shown[0] <= level <= shown[1] else line | {"visible": "legendonly"})
    sideways: dict[str, Any] = {"title": asked["x"]}
    if asked["scale"] == "log" and ends[0] > 0:
        marks = sorted(set(everywhere))
        sideways |= {"type": "log", "tickvals": marks, "ticktext": [f"{x:g}" for x in marks]}
    found = figure(traces, x=sideways, y=asked["y"])
    return Chart(found, title, f"{title}. " + "; ".join(told), tall(found, 400))
