"""The command of the probes: what is run, what is there, what the page says of it."""

import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import pytest

from scripts.records import Records
from scripts.studies.probes import __main__ as command
from scripts.studies.probes import figures, running, training
from scripts.studies.probes.masks import ROWS, chosen
from scripts.studies.probes.page import page
from scripts.studies.probes.probes import PROBES, named
from scripts.studies.probes.records import Cell, Run, Searched
from scripts.studies.probes.results import Results
from scripts.studies.probes.running import Plan
from scripts.studies.probes.training import trained
from tests.programs import ROOT

BY_NAME = {row.name: row for row in ROWS}
PROBE = {probe.name: probe for probe in PROBES}


# -- what is run ------------------------------------------------------------------------------------------------------


def test_a_row_runs_once_for_all_values_that_mean_the_same_to_it():
    runs = running.runs_of(PROBE["xor"], ROWS)
    number = Counter(row.name for _, row in runs)
    assert number["none"] == number["table-add"] == number["content-mul"] == 1
    assert number["lcaam-add"] == number["multi_lcaam-mul"] == 10
    two = Counter(row.name for _, row in running.runs_of(PROBE["two"], ROWS))
    assert (two["none"], two["columns-add"]) == (4, 6)  # three widths, and positions; with two kinds of groups


def test_masks_are_chosen_by_rung_or_with_their_fusion():
    assert [row.name for row in chosen(["lcaam", "table-mul"])] == ["none", "lcaam-add", "table-mul", "lcaam-mul"]
    assert [row.name for row in chosen(["cope"])] == ["none", "causal", "cope"]
    with pytest.raises(ValueError, match="--masks: there is no 'multi_lcam'; did you mean 'multi_lcaam'"):
        chosen(["multi_lcam"])
    with pytest.raises(ValueError, match="--probe: there is no 'hopp'; did you mean 'hop'"):
        named(["hopp"])


@pytest.fixture
def short(monkeypatch):
    """One step per run, few samples, one run per search."""
    monkeypatch.setattr(training, "trained", lambda model, batch, steps, *rest: trained(model, batch, 1, *rest))
    for where, name, value in (
        (training, "TESTED", 30),
        (running, "FACTORS", (1.0,)),
        (running, "SEARCH_SEEDS", (100,)),
    ):
        monkeypatch.setattr(where, name, value)


def test_every_probe_runs_through_the_command_and_none_runs_twice(short, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(figures, "write", lambda results, probe, folder: folder / f"{probe.name}.png")
    words = ["--run", "--masks", "multi_lcaam-add", "--seeds", "0", "--out", str(tmp_path)]
    command.main(words)
    lines = (tmp_path / "results" / "probes.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) - 1 == sum(len(running.runs_of(probe, chosen(["multi_lcaam-add"]))) for probe in PROBES)
    text = (tmp_path / "results" / "probes.md").read_text(encoding="utf-8")
    assert all(f"## {probe.title}" in text and f"../images/probes/{probe.name}.png" in text for probe in PROBES)
    assert "| P7, a place that is the exclusive or of two features | 11 of 54 | 1 of 15 | 0 |" in text

    def refused(*_):
        raise AssertionError("a run that is there was made again")

    monkeypatch.setattr(running, "made", refused)
    command.main(words)
    assert (tmp_path / "results" / "probes.csv").read_text(encoding="utf-8").splitlines() == lines
    assert "xor: 11 of 11 runs, 1 of 1 of the search" in capsys.readouterr().out


def test_the_figure_has_scores_and_steps_of_both_fusions(tmp_path):
    probe = PROBE["query"]
    plan = plan_of(tmp_path, [probe], "none", "columns-add")
    for value in probe.values:
        for row in ("none", "columns-add"):
            plan.runs.add(a_run(probe.name, value.label, row, seed=0, accuracy=20.0, steps_to_threshold=None))
    for cell in running.search_of(probe, BY_NAME["columns-add"]):
        plan.searched.add(searched_at(cell, loss=abs(cell.factor - 1.0)))
    made = figures.figure(Results(plan), probe)
    lines = [{line.get_label(): list(line.get_ydata()) for line in axes.lines} for axes in made.axes]
    assert lines[0] == {"none": [20.0] * 3, "columns": [20.0] * 3} and lines[1] == {"none": [20.0] * 3}
    assert lines[2]["columns"] == [160.0] * 3


# -- what is there -----------------------------------------------------------------------------------------------------


def a_run(probe: str, value: str, row: str, seed: int, accuracy: float | None, **others) -> Run:
    mask = BY_NAME[row]
    known = {"knob": PROBE[probe].knob, "mask": mask.rung, "fusion": mask.fusion, "scope": mask.scope, "factor": 1.0}
    known |= {"loss": 0.1, "seconds": 1.0, "commit": "abc", "threshold": 90.0, "steps": 160, "steps_to_threshold": 50}
    known |= dict.fromkeys(("frozen", "swapped", "shuffled")) | others
    return Run(probe=probe, value=value, seed=seed, accuracy=accuracy, **known)


def searched_at(cell: Cell, loss: float | None) -> Searched:
    whole = a_run(cell.probe, cell.value, cell.row, cell.seed, 50.0, factor=cell.factor, loss=loss)
    return Searched(**{name: getattr(whole, name) for name in Searched.__dataclass_fields__})


def plan_of(folder, probes, *rows) -> Plan:
    files = Records(folder / "search.csv", Searched), Records(folder / "runs.csv", Run)
    return Plan(probes, [BY_NAME[row] for row in rows], [0, 1], *files)


def test_the_page_says_which_rung_explains_a_gain_and_what_became_of_predictions(tmp_path):
    probe = PROBE["fixed"]
    plan = plan_of(tmp_path, [probe], "none", "columns-add", "multi_lcaam-add")
    for row in ("columns-add", "multi_lcaam-add"):
        for cell in running.search_of(probe, BY_NAME[row]):
            plan.searched.add(searched_at(cell, loss=abs(cell.factor - 1.0)))
    for row, scores in (("none", (23.0, 25.0)), ("columns-add", (99.0, 99.0)), ("multi_lcaam-add", (100.0, 100.0))):
        for seed, score in enumerate(scores):
            changed = {"frozen": 60.0} if row == "multi_lcaam-add" else {}
            plan.runs.add(a_run("fixed", "off", row, seed, score, steps_to_threshold=50 if seed else None, **changed))
    text = page(Results(plan), "python -m scripts.studies.probes", {})
    assert "| P1, a fixed place | 6 of 12 | 20 of 20 | 0 |" in text
    gain = (
        "Multi-LCAAM, add gains; lowest rungs that reach it: **columns** (without runs so far: span, offsets, table, "
    )
    assert gain + "lcaam, content, swapped, shuffled)." in text
    # differences 76 and 74: mean 75, Student's t 12.706 of one degree of freedom, standard error 1
    line = (
        "| columns, add | x1 | 99.00 ± 0.00 | 2 | no mask | +75.00 [+62.29, +87.71] | .50 |  |  |  | 105 | 1 of 2 |  |"
    )
    assert line in text
    assert "| off | columns, add | designed | ok | 99.00 [+99.00, +99.00] | 2 | holds |" in text
    frozen = "| off | Multi-LCAAM, add, frozen | designed | = multi_lcaam | -40.00 [-40.00, -40.00] | 2 | **fails** |"
    assert frozen in text
    assert "Multi-LCAAM, add over Multi-LCAAM, add, frozen: +40.00 [+40.00, +40.00] (n = 2, positions off)" not in text
    assert (
        "| P1, a fixed place | Multi-LCAAM, add over no mask: +76.00 [+63.29, +88.71] (n = 2, positions off) |" in text
    )


def test_runs_come_back_as_they_were_written_and_a_torn_line_is_made_again(tmp_path):
    path = tmp_path / "runs.csv"
    written = [a_run("query", "0.5", "none", 0, 23.45), a_run("two", "1, 16, with positions", "lcaam-add", 1, None)]
    written.append(replace(written[0], seed=2, frozen=1.5, steps_to_threshold=None))
    records = Records(path, Run)
    for run_ in written:
        records.add(run_)
    path.write_bytes(path.read_bytes() + b"query,share of samp")
    again = Records(path, Run)
    assert list(again.found.values()) == written
    assert again.find(Cell("two", "1, 16, with positions", "lcaam-add", 1.0, 1)) == written[1]
    again.add(replace(written[0], seed=3))
    assert [run_.seed for run_ in Records(path, Run).found.values()] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "text, told",
    [
        (b"a,b\n1,2\n", "not a table of these runs; its columns must be probe, knob"),
        (b"\xff\xfe\n", "not a table of these runs: it is not text"),
    ],
)
def test_a_file_that_is_something_else_is_refused_and_kept(tmp_path, text, told):
    path = tmp_path / "runs.csv"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=told):
        Records(path, Run)
    assert path.read_bytes() == text


def test_a_value_that_is_not_a_number_is_named_with_its_line(tmp_path):
    path = tmp_path / "runs.csv"
    Records(path, Run).add(a_run("query", "0", "none", 0, 23.0))
    path.write_text(path.read_text().replace("23.0", "many"))
    with pytest.raises(ValueError, match="line 2: accuracy is 'many', not a value"):
        Records(path, Run)


def test_the_factor_is_that_with_the_least_mean_loss_and_waits_for_the_whole_search(tmp_path):
    probe, row = PROBE["fixed"], BY_NAME["table-add"]
    plan = plan_of(tmp_path, [probe], "none", "table-add")
    losses = {0.1: (0.5, 0.5), 0.3: (0.1, 0.8), 1.0: (0.4, 0.4), 3.0: (0.0, None), 10.0: (0.3, 0.6)}
    cells = list(plan.search_cells())
    assert [(cell.factor, cell.seed) for cell in cells] == [(f, s) for f in losses for s in (100, 101)]
    for cell in cells[1:]:
        plan.searched.add(searched_at(cell, losses[cell.factor][cell.seed - 100]))
    assert plan.factor(probe, row) is None and plan.factor(probe, BY_NAME["none"]) == 1.0
    assert {cell.row for cell in plan.cells()} == {"none"}
    plan.searched.add(searched_at(cells[0], losses[cells[0].factor][0]))
    assert plan.factor(probe, row) == 1.0
    assert {(cell.row, cell.factor) for cell in plan.cells()} == {("none", 1.0), ("table-add", 1.0)}
    assert len(list(plan.cells())) == 8  # two masks, two values, two seeds


def test_bad_words_are_told_in_one_line(tmp_path, capsys):
    for words, told in (
        (["--seeds", "0", "40"], "from 0 to 39"),
        (["--seeds", "1", "1"], "a seed is given twice"),
    ):
        with pytest.raises(SystemExit):
            command.main([*words, "--out", str(tmp_path)])
        assert told in capsys.readouterr().err
    with pytest.raises(SystemExit, match="--probe: there is no 'hopp'"):
        command.main(["--probe", "hopp", "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SystemExit, match="file"):
        command.main(["--probe", "fixed", "--out", str(tmp_path / "file")])
    assert (tmp_path / "file").read_text() == "mine"


def test_a_second_command_is_told_of_the_first(tmp_path):
    with command.only_command(tmp_path / "results"), pytest.raises(SystemExit, match="another command runs probes"):
        command.main(["--probe", "fixed", "--out", str(tmp_path)])


def test_the_page_of_results_is_what_its_csv_files_say():
    path = ROOT / "docs" / "results" / "probes.md"
    text = path.read_text(encoding="utf-8")
    line = next(line.strip() for line in text.splitlines() if line.startswith("    python"))
    asked = command.arguments(line.split()[3:])
    files = [
        Records(path.with_name(name), kind) for name, kind in (("probes_search.csv", Searched), ("probes.csv", Run))
    ]
    results = Results(Plan(named(asked.probe), chosen(asked.masks), asked.seeds, *files))
    pictures = {probe.name: f"../images/probes/{probe.name}.png" for probe in results.plan.probes}
    assert page(results, line, pictures) == text


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_command_goes_on_with_what_is_missing(tmp_path, workers):
    words = [sys.executable, "-m", "scripts.studies.probes", "--run", "--probe", "fixed", "--masks", "temperature"]
    words += ["--seeds", "0", "--workers", workers, "--out", str(tmp_path)]
    path = tmp_path / "results" / "probes_search.csv"
    first = subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL)
    while not path.is_file() or path.read_text(encoding="utf-8").count("\n") < 4:
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.wait()
    before = path.read_text(encoding="utf-8")
    before = before[: before.rfind("\n") + 1]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "fixed: 4 of 4 runs, 10 of 10 of the search" in done.stdout
    after = path.read_text(encoding="utf-8")
    assert after.startswith(before) and after.count("\n") == 11
    assert len(Records(path, Searched).found) == 10
