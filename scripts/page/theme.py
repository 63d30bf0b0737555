"""How every figure looks: colours that colour-blind readers tell apart, a second mark beside each colour, sizes."""

import html
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from plotly.colors import diverging

Trace = dict[str, Any]
Axis = str | dict[str, Any]

# Okabe and Ito's colours, the blue a little lighter, without yellow and black: readable on light and on dark pages
COLOURS = ("#1F83C6", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8A8A8A")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star")
DASHES = ("solid", "dash", "dot", "dashdot")
REFERENCE = "#8A8A8A"  # floors, ceilings, neutral values
# blue, white, red: told apart by colour-blind readers. (The "RdBu" that plotly's script knows is another one.)
BLUE_TO_RED = [[place / 10, colour] for place, colour in enumerate(reversed(diverging.RdBu))]


@dataclass(frozen=True)
class Mark:
    """How a setting looks in every figure of its table."""

    colour: str
    symbol: str
    dash: str

    @property
    def faint(self) -> str:
        """The colour of a band over seeds."""
        red, green, blue = (int(self.colour[i : i + 2], 16) for i in (1, 3, 5))
        return f"rgba({red},{green},{blue},0.18)"


def mark(number: int) -> Mark:
    """The mark of the number-th setting; colours come again after seven, with another symbol and dash."""
    turn = number // len(COLOURS)
    symbol = SYMBOLS[(number + turn) % len(SYMBOLS)]
    return Mark(COLOURS[number % len(COLOURS)], symbol, DASHES[turn % len(DASHES)])


def plain(text: str) -> str:
    """Data as text of a figure, whose library reads tags and entities in it."""
    return html.escape(str(text), quote=False)


def wrapped(text: str, width: int = 24) -> str:
    """As `plain`, in lines of at most `width` letters: labels of axes must leave room on a narrow screen."""
    return "<br>".join(plain(line) for line in textwrap.wrap(str(text), width) or [""])


def figure(traces: Sequence[Trace], x: Axis = "", y: Axis = "", **layout: Any) -> dict[str, Any]:
    """A figure as plotly's JSON, with a legend below; x and y: an axis, or its title alone.

    The page sets the template, which depends on the reader's colour scheme. (plotly's own classes check the same names,
    but take 20 ms per call; tests check every figure with them.)
    """
    standing = {
        "xaxis": axis(x),
        "yaxis": axis(y),
        "margin": {"l": 8, "r": 8, "t": 12, "b": 8},
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "font": {"size": 12},
        "hovermode": "closest",
    }
    return {"data": list(traces), "layout": standing | layout}


def axis(given: Axis) -> dict[str, Any]:
    own = {"title": given} if isinstance(given, str) else given
    return {"automargin": True, **own, "title": {"text": plain(own.get("title", ""))}}


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str, group: str) -> Trace:
    """The area between two lines, as one trace that hover and legend leave out."""
    return {
        "type": "scatter",
        "x": [*x, *reversed(x)],
        "y": [*high, *reversed(low)],
        "fill": "toself",
        "fillcolor": colour,
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": group,
    }


def room(numbers: Iterable[float], share: float = 0.05) -> list[float]:
    """The range of an axis that shows all numbers, with some room at both ends."""
    found = list(numbers)
    wide = (max(found) - min(found)) or abs(found[0]) or 1.0
    return [min(found) - share * wide, max(found) + share * wide]


def tall(found: dict[str, Any], height: int) -> int:
    """A height with room for the legend, of which a narrow screen shows one or two names a line."""
    names = {trace.get("name") for trace in found["data"] if trace.get("showlegend") is not False} - {None}
    return height + 14 * len(names)


def across(value: float, name: str, ends: Sequence[float], dash: str = "dot", vertical: bool = False) -> Trace:
    """A reference line with a name in the legend."""
    along, at = list(ends), [value] * len(ends)
    return {
        "type": "scatter",
        "x": at if vertical else along,
        "y": along if vertical else at,
        "mode": "lines",
        "line": {"color": REFERENCE, "dash": dash, "width": 1.5},
        "name": plain(name),
        "hoverinfo": "name",
        "legendgroup": f"reference {name}",
    }
