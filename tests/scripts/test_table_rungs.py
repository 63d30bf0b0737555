"""Which rungs reach a mask, its runs tested again with other masks, and rows of shorter runs."""

import json
import re
from dataclasses import replace

import pytest

from configs.errors import ConfigError
from scripts.table import again, command, expected, markdown
from scripts.table.contrasts import baseline_of, baselines, compared
from scripts.table.expected import expected_rows
from scripts.table.rungs import explanations, rung_of
from scripts.table.summary import Row, Table
from tasks.common.evaluations import evaluations
from tasks.common.run_rows import read_rows, record_of, row_of, write_rows
from tests.scripts.test_report import run

SEEDS = range(6)
MASK = {"scope": "per_layer", "kind": "context", "fusion": "mul", "length": "fixed", "control": "none"}


def row(label, rung, values, fusion="mul", **changes):
    runs = {
        seed: {"metrics": {"exact": value}, "folder": None, "floors": {}, "seconds": {"fit": 1.0}}
        for seed, value in enumerate(values)
    }
    return Row(label, "0" * 16, [label], list(SEEDS), runs, rung=rung, fusion=fusion, **changes)


def around(mean, scatter=0.1):
    return [mean + scatter * (-1) ** seed * (1 + seed) for seed in SEEDS]


def table_of(*rows, margin=3.0):
    table = Table("ladder", "?", "mini", "audio_description", ["exact"], "exact", True, "full attention", list(rows),
                  [], {}, None, "python -m scripts.table ladder", [], [], [])  # fmt: skip
    candidates = baselines(rows, "full attention")
    table.contrasts = compared(table, candidates, [], margin)
    table.explanations = explanations(table, candidates, margin)
    return table


@pytest.mark.parametrize(
    ("changes", "rung"),
    [
        ({"scope": "none"}, "none"),
        ({"scope": "shared"}, "lcaam"),
        ({}, "multi_lcaam"),
        ({"scope": "shared", "length": "content"}, "content"),
        ({"kind": "columns"}, "columns"),
        ({"kind": "static"}, None),
        ({"control": "extra_linear"}, "extra_linear"),
    ],
)
def test_the_rung_of_a_mask(changes, rung):
    assert rung_of(MASK | changes) == rung


def test_the_lowest_rungs_that_reach_a_gain_are_named():
    """The mask gains 10 points; columns reach it, the table above them too, offsets and the frozen mask do not."""
    mask = around(60.0)
    rows = [
        row("full attention", "none", around(50.0, 0.2), fusion="none"),
        row("temperature", "temperature", around(50.0, 0.3)),
        row("column bias", "columns", around(59.0, 0.4)),
        row("offset table", "offsets", around(56.0, 0.2)),
        row("static table", "table", around(60.0, 0.3)),
        row("static table, add", "table", around(10.0, 0.3), fusion="add"),
        row("Multi-LCAAM", "multi_lcaam", mask),
        row("Multi-LCAAM, frozen", "frozen", around(52.0, 0.2), of="Multi-LCAAM"),
        row("Multi-LCAAM with content", "content", around(70.0)),
    ]
    table = table_of(*rows)
    first, content = table.explanations
    assert (first.row, first.against, first.gain) == ("Multi-LCAAM", "full attention", "not resolved")
    found = {one.row: one.reaches for one in first.rungs}
    assert found == {
        "full attention": False,
        "temperature": False,
        "column bias": True,
        "offset table": False,
        "static table": True,
        "Multi-LCAAM, frozen": False,
    }, "a rung of another fusion, or above the mask, is none"
    assert first.lowest == ["column bias"]
    one = next(one for one in first.rungs if one.row == "column bias")
    assert (one.n, one.mean) == (6, pytest.approx(sum(a - b for a, b in zip(around(59.0, 0.4), mask, strict=True)) / 6))
    assert content.lowest == ["Multi-LCAAM with content"]
    assert "| Multi-LCAAM | column bias | 6 |" in markdown.page(table)
    assert (
        "- Multi-LCAAM against full attention: not resolved. The lowest that reach it: column bias."
        in markdown.page(table)
    )
    assert {one.against for one in table.contrasts if one.row == "Multi-LCAAM, frozen"} == {
        "full attention",
        "Multi-LCAAM",
    }


def test_a_better_rung_reaches_it_and_for_a_loss_lower_is_better():
    rows = [
        row("full attention", "none", around(5.0), fusion="none"),
        row("column bias", "columns", around(5.0, 0.3)),
        row("LCAAM", "lcaam", around(9.0, 0.2)),
    ]
    assert table_of(*rows).explanations[0].lowest == ["LCAAM"]
    table = replace(table_of(*rows), primary="test_loss", metrics=["test_loss"])
    for one in table.rows:
        for values in one.runs.values():
            values["metrics"]["test_loss"] = values["metrics"]["exact"]
    table.contrasts = compared(table, table.rows[:1], [], 3.0)
    assert explanations(table, table.rows[:1], 3.0)[0].lowest == ["full attention"]
    assert explanations(table, table.rows[:1], None) == [], "without a margin nothing can be said"


# -- runs tested again ------------------------------------------------------------------------------------------------


def evaluated(folder, name, exact, time="1", **changes):
    place = folder / "eval" / f"{time}-{name}"
    place.mkdir(parents=True)
    found = {
        "checkpoint": f"{folder}/checkpoints/last.ckpt",
        "changes": [],
        "intervention": {"name": name},
        "exact": exact,
    }
    (place / "metrics.json").write_text(json.dumps(found | changes), encoding="utf-8")
    return place


@pytest.fixture
def masked(tmp_path):
    """A row of two runs: the first was tested again with frozen masks."""
    made = Row("LCAAM", "0" * 16, ["mask=lcaam"], [0, 1, 2], rung="lcaam", fusion="mul", missing={2: "never ran"})
    for seed in (0, 1):
        made.runs[seed] = run("madv2_lcaam", seed=seed, metrics={"exact": 50.0}) | {"folder": tmp_path / f"run{seed}"}
    evaluated(tmp_path / "run0", "frozen", 40.0)
    return made


def test_evaluations_of_the_same_weights_become_rows(masked, tmp_path):
    most = {"name": "frozen", "mean_over": 512}
    newest = evaluated(tmp_path / "run0", "frozen", 41.0, time="2", intervention=most)
    evaluated(tmp_path / "run0", "frozen", 1.0, time="3", changes=["data.batch_size"])
    evaluated(tmp_path / "run0", "frozen", 2.0, time="4", checkpoint="checkpoints/best.ckpt")
    evaluated(tmp_path / "run0", "none", 3.0, time="5", intervention=None)
    evaluated(tmp_path / "run0", "frozen", 4.0, time="6", intervention={"name": "frozen", "mean_over": 8})
    plain, frozen = again.with_again([masked], ["frozen"])
    assert plain is masked and (frozen.label, frozen.rung, frozen.of) == ("LCAAM, frozen", "frozen", "LCAAM")
    assert frozen.values("exact") == {0: 41.0} and frozen.runs[0]["folder"] == newest
    assert frozen.missing == {1: "not tested again", 2: "no run to test again"}
    table = Table("a", "?", "mini", "x", [], "exact", True, "", [plain, frozen], [], {}, None, "", [], [], [])
    assert again.owed([table]) == [[f"run={tmp_path}/run1", "intervention=frozen"]]


def test_only_masks_that_read_their_input_are_tested_again(masked):
    masked.rung = "table"
    assert again.with_again([masked], ["frozen"]) == [masked]
    with pytest.raises(ConfigError, match=r"table.interventions: 'frosen' is none; did you mean 'frozen'"):
        again.check_names(["frosen"])


def test_they_live_on_in_a_csv_file(masked, tmp_path):
    record = masked.runs[0] | {"identity": "x", "tested": "last", "git": None, "started": "1"}
    found = {name: metrics for name, (_, metrics) in evaluations(record["folder"], record).items()}
    write_rows(tmp_path / "rows.csv", [row_of(record | {"interventions": found}, "x")])
    read = record_of(read_rows(tmp_path / "rows.csv")["x"], {}, "rows.csv")
    assert read["interventions"] == {"frozen": {"exact": 40.0}}
    assert again.tested(read | {"folder": None}, "frozen")["metrics"] == {"exact": 40.0}
    assert again.tested(read | {"folder": None}, "swapped") is None


def test_an_evaluation_that_fails_is_said(tmp_path):
    said = again.evaluated([f"run={tmp_path}/nothing", "intervention=frozen"])
    assert re.match(r"ConfigError: .*nothing", said)


# -- shorter runs -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def headline(tmp_path_factory):
    return expected_rows("headline", ["scale=mini", "seed=0,1", "mask=none,lcaam"])


def test_a_budget_gives_every_row_a_second_one(headline):
    assert [one.label for one in headline] == [
        "full attention", "LCAAM", "full attention, 500 steps", "LCAAM, 500 steps"
    ]  # fmt: skip
    assert [one.steps for one in headline] == [None, None, 500, 500]
    short = headline[3]
    assert short.overrides[-2:] == ["trainer.max_steps=500", "task.warmup=0.4"]
    assert (short.cfg.trainer.max_steps, short.cfg.task.warmup, short.seeds) == (500, 0.4, [0, 1])
    other = short.cfg.copy()
    other.task.schedule = "cosine"
    with pytest.raises(ConfigError, match="needs task.schedule=wsd and trainer.max_steps, got schedule cosine"):
        expected.shortened(other, 0.5)


def test_rows_are_compared_within_their_budget(headline):
    rows = [Row(one.label, "0", one.overrides, one.seeds, steps=one.steps) for one in headline]
    found = baselines(rows, "full attention")
    assert [one.label for one in found] == ["full attention", "full attention, 500 steps"]
    assert [baseline_of(one, found).label for one in rows[1::2]] == ["full attention", "full attention, 500 steps"]


def test_shorter_runs_are_a_sweep_of_their_own(headline):
    def tables(*missing):
        rows = [Row(one.label, "0", one.overrides, one.seeds, steps=one.steps) for one in headline]
        for number in missing:
            rows[number].missing = {0: "never ran"}
        return [Table("headline", "?", "mini", "x", [], "exact", True, "", rows, [], {}, None, "", [], [], [])]

    usual = ["sweep=headline", "scale=mini", "hydra/launcher=local", "seed=0"]
    short = [*usual, "trainer.max_steps=500", "task.warmup=0.4", "resume=branch"]
    assert command.trainings("headline", "mini", ["seed=0"], tables(0, 2)) == [usual, short]
    assert command.trainings("headline", "mini", ["seed=0"], tables(2, 3)) == [short]
    assert command.trainings("headline", "mini", ["seed=0"], tables()) == []


def test_rows_that_never_ran_are_one_line_each_and_in_no_table():
    begun, half = row("full attention", "none", around(50)), row("LCAAM", "lcaam", around(60)[:1])
    half.missing = {seed: "never ran" for seed in SEEDS if seed}
    never = row("static table", "table", [], missing={seed: "never ran" for seed in SEEDS})
    table = table_of(begun, half, never)
    table.contrasts.append(replace(table.contrasts[-1], role="primary"))
    assert [(one.row, one.role) for one in table.contrasts] == [
        ("LCAAM", "exploratory"), ("static table", "exploratory"), ("static table", "primary")
    ]  # fmt: skip
    line = markdown.first_line(table)
    assert line.startswith("18 cells: 7 counted, 11 never ran (LCAAM, seed 1; LCAAM, seed 2; ")
    assert line.endswith("; static table, all 6 seeds)") and not markdown.missing_lines(table)
    shown = markdown.begun(table)
    assert [one.label for one in shown.rows] == ["full attention", "LCAAM"]
    assert [(one.row, one.role) for one in shown.contrasts] == [("LCAAM", "exploratory"), ("static table", "primary")]
    assert [[one.row for one in found.rungs] for found in shown.explanations] == [["full attention"]]
    assert "| static table | - |" not in markdown.page(table) and "| static table |" in markdown.page(table)
    nothing = replace(table, rows=[never])
    assert markdown.begun(nothing) is nothing
