"""Differences over several data sets: averaged over seeds within each, with an interval over data sets."""

import pytest

from configs.errors import ConfigError
from scripts.table import markdown
from scripts.table.data_sets import over_data_sets
from scripts.table.summary import Row, Table

# differences: 1 and 3 on the first data set, 2 and 6 on the second, 5 on the third, whose other run is missing
SCORES = {
    "full attention": {1: [10.0, 10.0], 2: [20.0, 20.0], 3: [30.0, 30.0]},
    "LCAAM": {1: [11.0, 13.0], 2: [22.0, 26.0], 3: [35.0]},
}


def rows_of(scores, data_sets=(1, 2, 3)):
    found = []
    for label, by_data in scores.items():
        for data in data_sets:
            mask = "none" if label == "full attention" else "lcaam"
            runs = {seed: {"metrics": {"exact": value}} for seed, value in enumerate(by_data[data])}
            overrides = [f"mask={mask}", f"data.seed={data}"]
            found.append(Row(f"{label}, data {data}", "1f", overrides, [0, 1], runs=runs))
    return found


def over(rows):
    return over_data_sets(rows, "data.seed", [row for row in rows if row.label.startswith("full")], "exact")


def test_seeds_are_averaged_within_each_data_set():
    (one,) = over(rows_of(SCORES))
    assert (one.row, one.against, one.seeds) == ("LCAAM", "full attention", 1)
    assert one.means == {"data 1": 2.0, "data 2": 4.0, "data 3": 5.0}
    assert one.mean == pytest.approx(11 / 3)
    half = 4.302653 * 1.527525 / 3**0.5  # Student's t with 2 degrees of freedom, and the means' deviation
    assert one.interval == pytest.approx((11 / 3 - half, 11 / 3 + half), abs=1e-4)
    assert one.between == pytest.approx(1.527525, abs=1e-6)
    assert one.within == pytest.approx(((1 + 1 + 4 + 4) / 2) ** 0.5)


def test_one_data_set_says_nothing_of_others():
    (one,) = over(rows_of(SCORES, data_sets=(2,)))
    assert (one.mean, one.interval, one.between) == (4.0, None, None)


def test_a_setting_without_runs_is_left_out_and_a_wrong_key_is_an_error():
    empty = {"full attention": SCORES["full attention"], "LCAAM": {1: [], 2: [], 3: []}}
    assert over(rows_of(empty)) == []
    with pytest.raises(ConfigError, match="table.data_sets: no row of the sweep sets data.split"):
        over_data_sets(rows_of(SCORES), "data.split", [], "exact")


def test_the_page_says_what_the_interval_is_about():
    settings = dict(name="data_seeds", question="?", scale="mini", task="audio_description", metrics=["exact"])
    settings |= dict(primary="exact", higher_is_better=True, baseline="full attention", floors={}, figure=None)
    table = Table(rows=rows_of(SCORES), contrasts=[], command="c", commits=[], versions=[], remarks=[], **settings)
    assert markdown.over_data_sets(table) == ""
    table.over_data_sets = over(table.rows)
    text = markdown.over_data_sets(table)
    assert "the interval is Student's over data sets" in text
    assert "| LCAAM | full attention | 3 | 1 | data 1 +2.00; data 2 +4.00; data 3 +5.00 | +3.67 [-0.13, +7.46]" in text
