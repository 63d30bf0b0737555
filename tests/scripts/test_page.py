"""The report without a browser: one file that loads nothing, has every number, and takes data for text."""

import re
from itertools import pairwise

import numpy as np
import pytest
from plotly.graph_objects import Figure

from scripts.page import saved, write
from scripts.page.blocks import Grid
from scripts.page.curves import lines
from scripts.page.examples import kind_of
from scripts.page.masks import natural, spread
from scripts.page.numbers import as_sentence, mean, means, verdicts
from scripts.page.sweep_figure import sweep_figure
from scripts.page.theme import mark
from scripts.page.writing import page
from tests.scripts.page_text import Seen, figures, words
from tests.scripts.small_tables import HOSTILE, contrast, row, shipped, table


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return shipped(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def text(tables, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "deep" / "report.html"
    write(tables, path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no draft
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def seen(text):
    found = Seen(text)
    assert found.open == []
    return found


def test_nothing_is_loaded_from_anywhere(seen, text):
    for _, attributes in seen.elements:
        for name in ("src", "href", "srcset", "poster", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,")), (name, attributes[name])
        assert not any(name.startswith("on") for name in attributes), attributes
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style and "@import" not in style
    (policy,) = [a["content"] for _, a in seen.of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';") and "http" not in policy
    assert text.count("plotly.js v") == 1  # the library, once


def test_data_are_text_wherever_they_appear(seen, text):
    assert HOSTILE not in text and words(seen).count(HOSTILE) >= 3  # a label and an answer
    own = [a for a, _ in seen.scripts if a.get("type") != "application/json"]
    assert len({id(a) for a in own}) == 2 and not any("onerror" in a for _, a in seen.elements)
    for said, figure in figures(seen).items():
        shown = [trace.get("name") or "" for trace in figure["data"]]
        shown += [text for axis in ("xaxis", "yaxis") for text in figure["layout"].get(axis, {}).get("ticktext", ())]
        assert not [name for name in shown if "<" in name.replace("<br>", "")], said
        assert not [trace for trace in figure["data"] if "%{y} <b>" in str(trace.get("hovertemplate"))]


def test_a_reader_who_cannot_see_it_finds_a_way(seen):
    headings = [int(tag[1]) for tag, _ in seen.of("h1", "h2", "h3", "h4")]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(headings))
    assert seen.of("html")[0][1]["lang"] == "en"
    assert all(a.get("alt") for _, a in seen.of("img"))
    assert all(a.get("scope") in ("row", "col") for _, a in seen.of("th"))
    charts = [a for _, a in seen.of("div") if "data-figure" in a]
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in charts)
    assert len(seen.of("figcaption")) == len(charts) == len(figures(seen))
    ids = [a["id"] for _, a in seen.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for _, a in seen.of("a")} <= set(ids)
    assert len({mark(i) for i in range(28)}) == 28  # colour, symbol and dash together


def test_every_number_of_every_table_is_there(seen, tables):
    shown = words(seen)
    for own in tables:
        for one in own.rows:
            for metric in own.metrics:
                cell = mean(one, metric)
                for line in cell if isinstance(cell, list) else [cell]:
                    assert line in shown
            for run in one.runs.values():
                for key in ("identity", "command", "wandb", "started"):
                    assert str(run.get(key) or "-") in shown
                assert run["folder"] is None or str(run["folder"]) in shown
        for remark in (*map(as_sentence, own.remarks), *verdicts(own), own.command, own.question):
            assert remark in shown
    assert "a row from docs/results/own.csv" not in shown and "docs/results/own.csv (csv)" in shown
    assert "18.56 ± 0.2" in shown and "as the paper reports it" in shown
    assert "1.23e+03" not in shown and "1,234" in shown and "13 M" in shown and "1.5 GB" in shown
    assert "9 cells" not in shown and "1 failed (Multi-LCAAM, seed 3: killed by SIGKILL)." in shown


def test_means_medians_and_shares_equal_those_computed_by_hand():
    runs = [{"seed": s, "metrics": {"exact": v}} for s, v in enumerate((1.0, 2.0, 6.0))]
    assert mean(row("a", runs), "exact") == ["3.00 ± 2.65", "median 2.00"]
    assert mean(row("a", runs[:1]), "exact") == "1.00" and mean(row("a", []), "exact") == "-"
    lost = table("t", "a", [row("a", runs[:1], expected=8)], ["exact"])
    # Clopper and Pearson, 7 of 8: qbeta(.025, 7, 2) = .4735, qbeta(.975, 8, 1) = .9968
    assert means(lost).rows == [[["a", "baseline"], "1 / 8", "1.00", "7 / 8 [47 %, 100 %]"]]


def test_a_verdict_says_how_large_how_sure_and_how_often():
    own = table("t", "audio_description", [row("none", [])], ["exact"], contrasts=[contrast()])
    start = "Multi-LCAAM against none, exact: not resolved (+2.50 [+0.45, +4.55], n = 4, sign-flip p = .12, "
    assert verdicts(own) == [start + "in sequence .12, margin 3)."]
    own.contrasts[0].p_adjusted = None
    assert verdicts(own) == [start + "not tested, since the sequence stopped before it, margin 3)."]
    own.contrasts[0].role = "exploratory"
    assert "No contrast of this table was registered" in verdicts(own)[0]
    own.contrasts = []
    assert "compares nothing" in verdicts(own)[0]


def test_rungs_that_reach_a_mask_are_said_and_runs_tested_again_are_no_trainings(seen, tables):
    shown = words(seen)
    assert "Multi-LCAAM against none: not resolved. No lower rung is shown to reach it." in shown
    assert "-2.50 [-4.55, -0.45]" in shown and "not shown" in shown
    again = row("Multi-LCAAM, frozen", list(tables[0].rows[1].runs.values()), of="Multi-LCAAM")
    own = page(table("t", "audio_description", [*tables[0].rows[:2], again], ["exact"]))
    grids = {
        grid.caption: [line[0] for line in grid.rows]
        for part in own.parts
        for grid in part.blocks
        if isinstance(grid, Grid)
    }
    (cost,) = [labels for caption, labels in grids.items() if caption.startswith("Cost")]
    (runs,) = [labels for caption, labels in grids.items() if caption.startswith("Every run")]
    assert again.label not in cost and again.label in runs


def test_every_seed_is_a_dot_between_the_floors(seen):
    (found,) = [f for said, f in figures(seen).items() if said.startswith("exact of every seed")]
    dots = [trace for trace in found["data"] if trace.get("mode") == "markers"]
    assert [trace["x"] for trace in dots] == [[50.0, 51.0, 52.0, 53.0], [44.25, 51.5, 20.75], [41.0, 42.0]]
    references = {trace["name"]: trace["x"][0] for trace in found["data"] if trace.get("hoverinfo") == "name"}
    assert references == {"constant": 1.5, "ceiling": 81.25}
    low, high = found["layout"]["xaxis"]["range"]
    assert low < 1.5 and high > 81.25


def test_a_curve_is_the_mean_and_its_band_the_range():
    found = lines({0: ([9, 19, 29], [1.0, 2.0, 3.0]), 1: ([9, 19], [3.0, 6.0])}, mark(0), "a")
    area, line = found
    assert (line["x"], line["y"]) == ([9, 19], [2.0, 4.0])  # step 29 has one seed only
    assert (area["x"], area["y"]) == ([9, 19, 19, 9], [3.0, 6.0, 2.0, 1.0])
    assert len(lines({0: ([9], [1.0])}, mark(0), "a")) == 1  # one seed has no band


def test_how_soon_settings_learn_is_said(seen):
    # the baseline's losses: 3 - step / 20 + seed, median 4.05 at step 9 and 2.55 at step 39: 2.55 + .05 * 1.5 = 2.625
    shown = words(seen)
    assert "Speed of learning: steps until val/loss is 2.625 (exploratory)." in shown
    assert "none 2 / 4 never 9 29 never never" in shown.replace("  ", " ")


def test_rows_of_an_unknown_task_are_shown_as_they_are():
    row = {"id": 7, "answer": 3, "predicted": 4, "query": "how many?"}
    kind = kind_of(row)
    assert (kind.name, kind.asked(row), kind.truth(row), kind.answer(row)) == ("id", "how many?", "", "4")


def test_long_curves_are_means_of_parts():
    steps, values = saved.shortened([(i, float(i)) for i in range(1000)])
    assert len(steps) == saved.POINTS and steps[-1] == 999 and values[0] == 2.0


def test_the_figure_of_the_sweep_is_drawn(seen, tables):
    (found,) = [f for said, f in figures(seen).items() if said.startswith("mAP over mask.depth, by mask.fusion")]
    means = {t["name"]: (t["x"], t["y"]) for t in found["data"] if t.get("mode") == "lines+markers"}
    assert means == {name: ([1, 2, 32], [1.5, 2.5, 32.5]) for name in ("add", "mul")}
    bands = [t for t in found["data"] if t.get("fill") == "toself"]
    assert [t["y"] for t in bands] == [[2.0, 3.0, 33.0, 32.0, 2.0, 1.0]] * 2
    across = {t["name"]: t["y"][0] for t in found["data"] if t.get("hoverinfo") == "name"}
    assert across == {"none": 20.5, "constant": 1.5, "ceiling": 81.25}  # the baseline has no depth
    assert [t["name"] for t in found["data"] if t.get("visible") == "legendonly"] == ["ceiling"]  # 81, far above
    assert found["layout"]["xaxis"]["type"] == "log"
    (curve,) = [f for said, f in figures(seen).items() if said.startswith("top1 over data.fraction")]
    (line,) = [t for t in curve["data"] if t.get("mode") == "lines+markers"]
    assert (line["x"], line["y"]) == ([0.1, 1.0], [10.0, 100.0])
    assert sweep_figure(tables[0]) is None
    lost = table("t", "a", [row("none", [])], ["mAP"], figure={"x": "mask.depth"})
    assert "no run that counts has both" in sweep_figure(lost).blocks[0].text


def rgb(colour: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", colour)]


def test_masks_are_centred_on_the_value_that_leaves_plain_attention(seen, tables):
    maps = {said: f["data"][0] for said, f in figures(seen).items() if f["data"][0]["type"] == "heatmap"}
    of_gate = [trace for said, trace in maps.items() if "Mask of gate" in said]
    of_mul = [trace for said, trace in maps.items() if "Mask of Multi-LCAAM" in said]
    for traces, neutral in ((of_gate, 0.0), (of_mul, 1.0)):
        assert traces
        for trace in traces:
            assert (trace["zmin"] + trace["zmax"]) / 2 == pytest.approx(neutral)
            (low, blue), (middle, white), (high, red) = (trace["colorscale"][place] for place in (0, 5, 10))
            assert (low, middle, high) == (0, 0.5, 1) and min(rgb(white)) > 240
            assert rgb(blue)[2] > rgb(blue)[0] and rgb(red)[0] > rgb(red)[2]
    layer = saved.layers(tables[0].rows[1].runs[0]["folder"])
    (found,) = [t for said, t in maps.items() if said.startswith("Mask of Multi-LCAAM, layer 1: 6 queries by 6 keys")]
    assert found["zmax"] - 1 == pytest.approx(np.abs(layer.means[0] - 1).max())
    assert [a["alt"] for _, a in seen.of("img")] == [
        "Test image d0/000000.png: digits in clutter, the framed one is a 0"
    ]


def test_examples_show_question_truth_and_answer(seen):
    shown = words(seen)
    for words_of in (
        "Item a0: movie m1, 1.50 to 3.00 s", "Key one sounds 0.", "the digit 0 appears (video v1)", "6.0 to 12.0 s",
        "4.0 to 10.0 s (0.90), 20.0 to 28.0 s (0.20)", "class 3 (25 %)", "video video1",
        "a two rises 0; the two moves up",
    ):  # fmt: skip
        assert words_of in shown
    assert any(said.startswith("truth 6.0 to 12.0 s") for said in figures(seen))


def test_a_table_of_which_nothing_ran_is_a_page_too(tmp_path):
    own = table("t", "audio_description", [row("none", [], expected=2), row("LCAAM", [], expected=2)], ["exact"])
    own.figure = {"x": "mask.depth"}
    write([own], tmp_path / "report.html")
    shown = words(Seen((tmp_path / "report.html").read_text()))
    assert "0 of 4 runs" in shown and "4 failed (none, seed 0: killed by SIGKILL" in shown


def test_layers_are_in_their_order_and_of_many_some_are_shown():
    assert sorted(["layer 10", "layer 2", "encoder layer 1"], key=natural) == ["encoder layer 1", "layer 2", "layer 10"]
    assert spread(2) == [0, 1] and spread(12) == [0, 2, 4, 7, 9, 11] and spread(1) == [0]


def test_every_figure_is_one_that_plotly_knows(seen):
    """One of each kind: plotly's classes check names and values of everything in it, slowly."""
    kinds = {re.sub(r"[\d.]+|of .*", "", said)[:12]: figure for said, figure in figures(seen).items()}
    assert len(kinds) >= 8
    for figure in kinds.values():
        Figure(figure)
