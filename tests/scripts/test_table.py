"""A table from records that runs would leave: what counts, what is missing, what is said, and its three forms."""

import csv
import io
import json

import pytest

from datamodules.evaluated import Evaluated
from scripts.table import csv_rows, latex, markdown, words
from scripts.table.contrasts import verdict
from scripts.table.expected import expected_rows
from scripts.table.making import tables_of
from scripts.table.summary import Contrast, Row
from tasks.common.directions import higher_is_better
from tasks.common.run_rows import row_of, write_rows
from tests.scripts.shelf import SEEDS


def primary(table):
    return next(one for one in table.contrasts if one.role == "primary")


def test_runs_are_found_by_identity_and_compared_seed_by_seed(shelf):
    shelf.leave_all([50.0, 52.0, 48.0, 50.0], [51.0, 54.0, 51.0, 54.0])
    table = shelf.table()
    assert [row.label for row in table.rows] == ["full attention", "Multi-LCAAM"]
    one = primary(table)
    assert (one.row, one.against, one.metric, one.n) == ("Multi-LCAAM", "full attention", "exact", 4)
    assert one.differences == [1.0, 2.0, 3.0, 4.0]
    assert (one.mean, one.p_sign_flip, one.p_adjusted) == (2.5, 2 / 16, 2 / 16)
    assert one.verdict == "not resolved", "with four seeds no p is below .125"
    assert {c.role for c in table.contrasts if c is not one} == {"exploratory"}
    text = markdown.page(table)
    assert "8 cells: 8 counted\n" in text
    assert "| full attention | 4 / 4 | 50.00 ± 1.63 | " in text
    assert (
        "| Multi-LCAAM | full attention | exact | 4 | +2.50 [+0.45, +4.55] | +2.50 | .12 | .0305 | .12 | 3 | " in text
    )
    assert "| *constant* |  | 5.00 | - |" in text
    assert "as the paper reports" not in text, "these are not the paper's data"


def test_missing_seeds_are_named_and_only_common_ones_are_paired(shelf):
    for seed in SEEDS:
        shelf.leave(0, seed, 50.0 + seed)
    shelf.leave(1, 0, 51.0)
    shelf.leave(1, 1, status="failed", error={"type": "NonFiniteLossError", "message": "step 3: loss is nan\nmore"})
    shelf.leave(1, 2, status="running")
    table = shelf.table()
    masked = table.rows[1]
    assert masked.missing == {
        1: "failed: NonFiniteLossError: step 3: loss is nan",
        2: "unfinished: still runs, or was killed",
        3: "never ran",
    }
    line = markdown.first_line(table)
    assert line.startswith(
        "8 cells: 5 counted, 1 failed (Multi-LCAAM, seed 1: NonFiniteLossError: step 3: loss is nan), "
    )
    assert line.endswith("1 never ran (Multi-LCAAM, seed 3)")
    one = primary(table)
    assert (one.n, one.differences, one.interval, one.p_sign_flip) == (1, [1.0], None, None)
    assert words.failed(masked, "exact", None, True) == (1, 2), "of those that ended"
    assert words.failed_share(masked, "exact", None, True) == "1 / 2 [1 %, 99 %]"
    assert words.failed(table.rows[0], "exact", 51.5, True) == (2, 4), "50 and 51 are below"


def test_a_debug_run_and_older_runs_do_not_count(shelf):
    shelf.leave(0, 0, 10.0, name="1")
    shelf.leave(0, 0, 20.0, name="2")
    shelf.leave(0, 0, 30.0, name="3", status="failed", error={"type": "Terminated"})
    shelf.leave(0, 1, trainer={"fast_dev_run": True})
    row = shelf.table().rows[0]
    assert row.values("exact") == {0: 20.0}
    assert row.missing[1] == "not counted: debug run (trainer.fast_dev_run=True)"


def test_identical_values_resolve_nothing(shelf):
    shelf.leave_all([50.0] * 4, [50.0] * 4)
    one = primary(shelf.table())
    assert (one.mean, one.p_sign_flip, one.p_t, one.p_equivalence, one.p_scatter) == (0.0, 1.0, None, None, None)
    assert one.verdict == "not resolved"


def test_runs_of_several_commits_and_versions_are_flagged(shelf):
    for seed in SEEDS:
        shelf.leave(0, seed, versions={"torch": "2.9", "numpy": "2"})
    shelf.leave(1, 0, git={"commit": "b" * 40, "dirty": True}, versions={"torch": "2.10", "numpy": "2"})
    table = shelf.table()
    assert table.commits == ["aaaaaaa", "bbbbbbb with changes"]
    assert "runs of 2 commits: aaaaaaa (4), bbbbbbb with changes (1)" in table.remarks
    assert "runs with 2 sets of package versions: torch 2.9, 2.10" in table.remarks
    assert len(table.versions) == 2


def test_runs_with_other_test_sets_are_flagged_also_from_a_csv_file(shelf, tmp_path):
    whole = Evaluated("clips", {"test": 100}, "names in videos.csv").record(100)
    less = Evaluated("clips", {"test": 98}, "names in videos.csv", {"test": {"clip without a file": 2}}).record(98)
    for seed in SEEDS:
        shelf.leave(0, seed, evaluation=whole)
    assert not any("tested on" in remark for remark in shelf.table().remarks)
    folder = shelf.leave(1, 0, evaluation=less)
    record = json.loads((folder / "results.json").read_text())
    (folder / "results.json").unlink()
    write_rows(tmp_path / "rows.csv", [row_of(record, record["identity"])])
    shelf.rows[0].cfg.sweep.known = [f"{tmp_path}/rows.csv"]
    assert (
        "runs were tested on 2 different sets, whose scores cannot be compared: 100 clips of the split names in "
        "videos.csv (4 runs); 98 clips of the split names in videos.csv without 2 x clip without a file (1 run)"
    ) in shelf.table().remarks


def test_a_committed_csv_counts(shelf, tmp_path):
    folder = shelf.leave(0, 2, 47.0)
    record = json.loads((folder / "results.json").read_text())
    (folder / "results.json").unlink()
    write_rows(tmp_path / "rows.csv", [row_of(record | {"flops": 13032448}, record["identity"])])
    shelf.leave(0, 1, 48.0)  # of an older file, say: its FLOPs are not known
    shelf.rows[0].cfg.sweep.known = [f"{tmp_path}/rows.csv"]
    table = shelf.table()
    assert table.rows[0].values("exact") == {1: 48.0, 2: 47.0}
    assert table.rows[0].runs[2]["folder"] is None
    assert f"8 cells: 2 counted (1 from {tmp_path}/rows.csv), 6 never ran" in markdown.page(table)
    assert " | 1.3e+07 | " in markdown.page(table)


def test_a_metric_that_is_no_number_is_a_failed_seed(shelf):
    shelf.leave(0, 0, metrics={"exact": None})
    shelf.leave(0, 1, 40.0)
    row = shelf.table().rows[0]
    assert (row.values("exact"), words.failed(row, "exact", None, True)) == ({1: 40.0}, (1, 2))


def test_without_java_the_plain_scores_stand_in(shelf):
    shelf.leave(0, 0, metrics={"exact": 1.0, "cider_plain": 2.0})
    table = shelf.table()
    assert "cider_plain" in table.metrics and "cider" not in table.metrics
    assert "cider_plain stands for cider, which needs Java" in table.remarks
    assert any(line.startswith("no run has the metric rouge_l") for line in table.remarks)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"p_adjusted": 0.01, "mean": 2.0}, "helps"),
        ({"p_adjusted": 0.01, "mean": -2.0}, "hurts"),
        ({"p_adjusted": 0.01, "mean": -2.0, "metric": "test_loss"}, "helps"),
        ({"p_adjusted": 0.06, "mean": 2.0}, "not resolved"),
        ({"p_adjusted": None, "mean": 2.0}, "not resolved"),
        ({"p_adjusted": 0.9, "p_equivalence": 0.01}, "no difference above the margin"),
        ({"p_adjusted": 0.01, "mean": 0.5, "p_equivalence": 0.01}, "no difference above the margin"),
    ],
)
def test_verdicts(changes, said):
    settings = {"row": "a", "against": "b", "metric": "exact", "n": 8, "differences": [], "mean": 0.0, "interval": None}
    settings |= {
        "p_sign_flip": 0.5,
        "p_t": 0.5,
        "p_adjusted": None,
        "role": "primary",
        "margin": 3.0,
        "verdict": "helps",
    }
    assert verdict(Contrast(**(settings | changes))) == said


def test_losses_are_better_if_they_are_lower():
    assert higher_is_better("exact") and not higher_is_better("test_loss")
    assert not any(map(higher_is_better, ("loss", "bits_per_character", "perplexity")))


def test_the_paper_s_figures_stand_beside_its_own_data_only(tmp_path):
    rows = expected_rows("table1a", ["scale=paper", "seed=0", f"paths.log_dir={tmp_path}"])
    for as_shipped in (True, False):
        for row in rows:
            assert row.as_shipped or not as_shipped
            row.as_shipped = as_shipped
        (table,) = tables_of("table1a", rows, [], "x")
        assert [bool(row.published) for row in table.rows] == [as_shipped] * 2
        assert ("| *Multi-LCAAM, as the paper reports it* |  | 18.56 ± 0.2 |" in markdown.page(table)) == as_shipped


def test_a_part_of_a_table_drops_contrasts_and_says_so(tmp_path):
    given = ["scale=smoke", "seed=0", "experiment=madv2_baseline,madv2_lcaam", f"paths.log_dir={tmp_path}"]
    rows = expected_rows("table1a", [*given, "task.lr=0.5"])
    assert not any(row.as_shipped for row in rows), "a setting was changed"
    (table,) = tables_of("table1a", rows, given, "x")
    assert table.remarks == ["the pre-registered contrast of Multi-LCAAM is not in this part of the table"]
    assert {one.row for one in table.contrasts} == {"LCAAM"}


def test_latex_escapes_and_balances(shelf):
    shelf.leave_all([50.0, 52.0, 48.0, 50.0], [51.0, 54.0, 51.0, 54.0])
    table = shelf.table()
    table.rows[1].label = "a_b & 5 % {x} [1]"
    table.rows[1].published = {"exact": "13.54 ± 0.5"}
    text = latex.page(table)
    assert r"a\_b \& 5 \% \{x\} {[}1{]} & 4 & 52.50 $\pm$ 1.73" in text
    assert r"\textit{13.54 $\pm$ 0.5}" in text and "not recorded" in text
    assert text.count("{") == text.count("}")
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({line.replace(r"\&", "").count("&") for line in rows}) == 1, "every row has as many cells"
    assert latex.escaped("\\~^") == r"\textbackslash{}\textasciitilde{}\textasciicircum{}"


def test_the_csv_has_a_row_per_cell(shelf):
    folder = shelf.leave(1, 3, 44.0)
    rows = list(csv.DictReader(io.StringIO(csv_rows.page([shelf.table()]))))
    assert len(rows) == 8
    (counted,) = [row for row in rows if row["status"] == "counted"]
    assert (counted["row"], counted["seed"], counted["exact"]) == ("Multi-LCAAM", "3", "44.0")
    assert (counted["folder"], counted["commit"]) == (str(folder), "a" * 40)
    assert {row["settings"] for row in rows if row["row"] == "Multi-LCAAM"} == {counted["settings"]}
    assert {row["status"] for row in rows if row is not counted} == {"never ran"}


def test_a_row_without_runs_is_shown_empty():
    row = Row("a", "0", [], [0, 1])
    assert (
        words.of_row(row, "exact") == words.median(row, "exact") == words.failed_share(row, "exact", 1.0, True) == "-"
    )
