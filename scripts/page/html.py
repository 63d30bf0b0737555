"""The page as one file: its template, styles and script stand beside this file, and plotly's script is inside."""

import json
from itertools import count
from pathlib import Path

import plotly.io
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from scripts.page.blocks import Chart, Page
from tasks.common.files import strict

TEMPLATES = Path(__file__).parent / "templates"
LOOKS = {"light": "plotly_white", "dark": "plotly_dark"}


def rendered(pages: list[Page], title: str, made_by: str) -> str:
    """The whole file as text. Everything that comes from data is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure_json
    environment.tests["lines"] = lambda cell: isinstance(cell, list)
    environment.globals |= {"kind": lambda block: type(block).__name__, "number": count(1).__next__}
    return environment.get_template("report.html").render(
        pages=pages,
        title=title,
        made_by=made_by,
        style=part("report.css"),
        script=part("report.js"),
        plotly=Markup(get_plotlyjs().replace("</script", "<\\/script")),
        looks=Markup(json.dumps({name: look(template) for name, template in LOOKS.items()}).replace("<", "\\u003c")),
    )


def part(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))


def look(name: str) -> dict:
    """A template of plotly's on the page's own background."""
    found = plotly.io.templates[name].to_plotly_json()
    found["layout"] |= {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)"}
    return found


def figure_json(chart: Chart) -> Markup:
    """A figure for a script element, which no text in it can end. What is not finite becomes null: a gap."""
    text = json.dumps(strict(chart.figure), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))
