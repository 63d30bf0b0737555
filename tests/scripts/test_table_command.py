"""python -m scripts.table: what is refused, what is run, and what is not run again."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from scripts.table import command, making
from tests.programs import ROOT


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tabel1a"], r"'tabel1a' is not a sweep; did you mean 'table1a'\? \(those with a table: "),
        (["search"], r"configs/sweep/search.yaml has no `table:`"),
        (["table1a", "--", "batch_size=3"], "batch_size: unknown key; did you mean 'data.batch_size'"),
        (["table1a", "--", "seed"], "seed is not a setting"),
        (["table1a", "--", "sweep.known=[no.csv]"], "no.csv: not a readable csv file"),
        (["table1a", "--scale", "tiny"], "invalid choice: 'tiny'"),
        (["table1a", "--", "scale=mini"], "scale=mini: write --scale mini"),
        (["table4", "--html"], "table4 is measured by scripts.cost, which writes markdown and JSON only"),
    ],
)
def test_a_bad_command_line_is_one_message(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2
    assert re.search(said, capsys.readouterr().err)


def test_a_page_that_cannot_be_made_is_said_before_anything_runs(monkeypatch, capsys):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        command.main(["table1a", "--scale", "smoke", "--run", "--html"])
    assert "--html needs the package plotly: pip install -e '.[lab]'" in capsys.readouterr().err


def test_what_is_there_is_not_run_again(shelf, monkeypatch, capsys):
    called = []
    monkeypatch.setattr(command, "called", lambda *words: called.append(words) or 0)
    monkeypatch.setattr(making, "expected_rows", lambda name, words: shelf.rows)
    line = ["table1a", "--scale", "smoke", "--run", "--latex", "--", "seed=0,1,2,3"]
    shelf.leave_all([50.0] * 4, [51.0] * 4)
    assert command.main(line) == 0 and called == []
    folder = shelf.folder / "logs" / "tables" / "table1a_smoke"
    assert sorted(path.name for path in folder.iterdir()) == ["table.csv", "table.md", "table.tex"]
    assert (folder / "table.md").read_text(encoding="utf-8") in capsys.readouterr().out
    next(shelf.folder.glob("logs/madv2_multi_lcaam/smoke/seed3/1/results.json")).unlink()
    shelf.leave(1, 3, name="2", identity="that of other settings")
    assert command.main(line) == 1, "a cell is missing still"
    assert called == [("train.py", "sweep=table1a", "scale=smoke", "hydra/launcher=local", "seed=0,1,2,3")]


def test_costs_are_another_command_s(monkeypatch, capsys):
    assert command.main(["table4", "--scale", "mini"]) == 0
    assert "python -m scripts.cost experiment=madv2_baseline scale=mini --latency" in capsys.readouterr().out


def test_a_program_that_is_told_to_end_tells_the_one_that_it_called(tmp_path):
    child = (
        "import signal, sys, time, pathlib\n"
        f"def end(*_): pathlib.Path({str(tmp_path)!r}, 'told').touch(); sys.exit(0)\n"
        f"signal.signal(signal.SIGTERM, end); pathlib.Path({str(tmp_path)!r}, 'up').touch(); time.sleep(60)"
    )
    parent = f"from scripts.table.running import called; called('-c', {child!r})"
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, env=os.environ)
    for _ in range(600):
        if (tmp_path / "up").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert (tmp_path / "told").exists()


@pytest.mark.slow
def test_a_table_from_nothing_is_killed_and_goes_on(tmp_path):
    """Stopped after its first cell: the second time the others run, and the first one does not again."""
    line = ["table1a", "--scale", "smoke", "--run", "--latex", "--", "seed=0,1", "hydra.launcher.n_jobs=1"]
    line += [f"paths.log_dir={tmp_path}/logs", f"paths.data_dir={tmp_path}/data"]
    process = subprocess.Popen([sys.executable, "-m", "scripts.table", *line], cwd=ROOT)

    def completed():
        records = {path: json.loads(path.read_text()) for path in tmp_path.glob("logs/*/smoke/*/*/results.json")}
        return {path for path, record in records.items() if record["status"] == "completed"}

    while not (first := completed()):
        assert process.poll() is None
        time.sleep(0.2)
    process.terminate()
    assert process.wait(120) == 128 + signal.SIGTERM
    done = subprocess.run([sys.executable, "-m", "scripts.table", *line], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 cells: 4 counted" in done.stdout
    assert first <= completed() and len(completed()) == 4
    assert sorted(path.name for path in (tmp_path / "logs/tables/table1a_smoke").iterdir()) == [
        "table.csv",
        "table.md",
        "table.tex",
    ]
