"""Every seed as a dot, one figure per metric, between the floors and the ceiling."""

from scripts.page.blocks import Chart, Charts, Part
from scripts.page.theme import across, figure, mark, plain, room, tall, wrapped
from scripts.table.summary import Table
from scripts.table.words import number

ROOM = 0.32  # half the height that the seeds of a setting take; settings are 1 apart


def dots(table: Table) -> Part:
    """The primary metric first, the others beside one another."""
    first = of_metric(table, table.primary)
    others = [of_metric(table, metric) for metric in table.metrics if metric != table.primary]
    small = [chart for chart in others if chart is not None]
    return Part("Every seed", [*([] if first is None else [first]), *([Charts(small)] if small else [])])


def of_metric(table: Table, metric: str) -> Chart | None:
    """None if no run has the metric."""
    traces, shown = [], []
    for place, row in enumerate(table.rows):
        found = row.values(metric)
        if not found:
            continue
        shown.append(f"{row.label} {', '.join(number(value, metric) for value in found.values())}")
        own, mean = mark(place), sum(found.values()) / len(found)
        heights = [place + ROOM * (2 * (i + 0.5) / len(found) - 1) for i in range(len(found))]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": list(found.values()),
                "y": heights,
                "marker": {"color": own.colour, "symbol": own.symbol, "size": 9, "line": {"width": 1}},
                "customdata": [[f"seed {seed}", plain(row.label)] for seed in found],
                "hovertemplate": "%{customdata[1]}, %{customdata[0]}: %{x}<extra></extra>",
                "name": plain(row.label),
                "showlegend": False,
            }
        )
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [mean, mean],
                "y": [place - 0.42, place + 0.42],
                "line": {"color": own.colour, "width": 3},
                "hovertemplate": "mean %{x}<extra></extra>",
                "name": "mean",
                "showlegend": False,
            }
        )
    if not traces:
        return None
    ends = (-0.6, len(table.rows) - 0.4)
    for turn, (kind, scores) in enumerate(table.floors.items()):
        if scores.get(metric) is not None:
            dash = ("dot", "dash", "dashdot", "longdash")[turn % 4]
            traces.append(across(scores[metric], kind.replace("_", " "), ends, dash, vertical=True))
    labels = [wrapped(row.label) for row in table.rows]
    sideways = {"title": metric, "range": room(x for trace in traces for x in trace["x"])}
    places = {"tickvals": list(range(len(labels))), "ticktext": labels, "range": ends[::-1], "zeroline": False}
    found = figure(traces, x=sideways, y=places)
    says = f"{metric} of every seed. " + "; ".join(shown)
    return Chart(found, f"{metric}: a dot per seed, a bar at the mean", says, tall(found, 110 + 40 * len(labels)))
