"""The report in headless Chromium: nothing fails, nothing is requested, everything is drawn, on every screen."""

import re
from pathlib import Path

import pytest

from scripts.page import write
from tests.scripts.small_tables import shipped
from tests.tiers import slow

DRAWN = 120_000  # milliseconds; 3 s on an idle core
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(22, 24, 28)"
OWN = ("file:", "data:", "blob:")


class Opened:
    """A page, and everything that it complained of or asked for."""

    def __init__(self, page, path: Path) -> None:
        self.page, self.complaints, self.requests = page, [], []
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(OWN) else route.abort())
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn]", state="attached", timeout=DRAWN)

    def count(self, selector: str) -> int:
        return self.page.locator(selector).count()

    def style(self, selector: str, name: str) -> str:
        script = "([selector, name]) => getComputedStyle(document.querySelector(selector))[name]"
        return self.page.evaluate(script, [selector, name])

    def colour_of_text(self) -> str:
        """The colour of a figure's axis title, which only the figure's template decides."""
        return self.page.evaluate("getComputedStyle(document.querySelector('.chart .xtitle')).fill")

    def wide(self) -> int:
        return self.page.evaluate("document.scrollingElement.scrollWidth")

    def settled(self, **drawn_for: object) -> None:
        """Waits until figures are drawn again, for a `look` (dark, light, paper) or a `width` of the window."""
        wanted = "".join(f'[data-{name}="{value}"]' for name, value in drawn_for.items())
        self.page.wait_for_selector(f"html{wanted}", state="attached", timeout=DRAWN)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return shipped(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def report(tables, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write(tables, path)
    return path


@pytest.fixture(scope="module")
def opened(browser, report) -> Opened:
    return Opened(browser.new_page(viewport={"width": 1200, "height": 900}, color_scheme="light"), report)


def test_nothing_fails_and_nothing_is_requested(opened: Opened, report: Path):
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("data:", "blob:"))] == [report.as_uri()]
    assert opened.page.evaluate("window.bad") is None  # what the data tried


def test_every_table_and_every_figure_is_there(opened: Opened, tables):
    text = report_text(opened)
    charts = text.count('class="chart"')
    assert charts > 40 and opened.page.get_attribute("html", "data-drawn") == str(charts)
    assert opened.count(".chart.js-plotly-plot .main-svg") >= charts == opened.count(".chart.js-plotly-plot")
    assert opened.count("section.table") == len(tables)
    grids = opened.page.evaluate("[...document.querySelectorAll('[data-grid]')].map((grid) => grid.rows.length)")
    assert len(grids) == text.count("<table") and min(grids) >= 2
    titles = "(section) => [...section.querySelectorAll('h3')].map((heading) => heading.innerText)"
    sections = opened.page.evaluate(f"[...document.querySelectorAll('section.table')].map({titles})")
    for number, own in enumerate(tables):
        wanted = {"Numbers", "Every seed", "Learning curves", "Masks", "Examples", "Cost", "Provenance"}
        assert set(sections[number]) == wanted | ({"Figure"} if own.figure else set())
    assert opened.page.evaluate("[...document.images].every((image) => image.naturalWidth === 24)")
    # every trace that has points has marks on the screen: the first figure has three settings, means, floor and ceiling
    assert opened.page.locator(".chart").first.locator(".scatterlayer .trace").count() == 8


def report_text(opened: Opened) -> str:
    return Path(opened.page.url.removeprefix("file://")).read_text(encoding="utf-8")


def test_the_page_follows_the_readers_colour_scheme(opened: Opened):
    light = opened.colour_of_text()
    assert opened.style("body", "backgroundColor") == LIGHT
    opened.page.emulate_media(color_scheme="dark")
    opened.settled(look="dark")
    assert opened.style("body", "backgroundColor") == DARK
    assert brightness(opened.colour_of_text()) > 180 and brightness(light) < 120
    assert opened.complaints == []


def brightness(colour: str) -> float:
    """Of `rgb(42, 63, 95)`, in 0..255."""
    return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 3


@pytest.mark.parametrize("width", [390, slow(320), slow(768)])
def test_nothing_is_wider_than_the_screen(opened: Opened, width: int):
    opened.page.set_viewport_size({"width": width, "height": 844})
    opened.settled(width=width)
    try:
        assert opened.wide() <= width
        figures = opened.page.evaluate(
            "[...document.querySelectorAll('.chart .main-svg')].map((s) => s.getBoundingClientRect().right)"
        )
        assert max(figures) <= width
        # tables scroll within their own container
        assert opened.page.evaluate(
            "[...document.querySelectorAll('.scroll')].some((s) => s.scrollWidth > s.clientWidth)"
        )
    finally:
        opened.page.set_viewport_size({"width": 1200, "height": 900})
        opened.settled(width=1200)
    assert opened.complaints == []


@pytest.mark.slow
def test_it_is_printed_light_and_whole_also_for_a_reader_in_the_dark(opened: Opened):
    opened.page.emulate_media(media="print", color_scheme="dark")
    opened.settled(look="paper")
    try:
        assert opened.style("body", "backgroundColor") == LIGHT and brightness(opened.colour_of_text()) < 120
        assert opened.style("nav", "display") == "none"
        assert opened.style(".scroll", "overflowX") == "visible"
        widths = opened.page.evaluate(
            "[...document.querySelectorAll('.chart .main-svg')].map((s) => s.getBoundingClientRect().width)"
        )
        assert max(widths) <= 660
        assert len(opened.page.pdf()) > 100_000
    finally:
        opened.page.emulate_media(media="screen", color_scheme="light")
    assert opened.complaints == []


@pytest.mark.slow
def test_without_scripts_the_tables_are_there(browser, report: Path):
    page = browser.new_page(java_script_enabled=False)
    page.goto(report.as_uri())
    assert page.locator("noscript").first.is_visible()
    assert "50.00" not in page.title() and page.locator("td", has_text="51.50 ± 1.29").count() == 1
    page.close()
