"""What a run prints: a closing table, and lines instead of a bar where nobody watches."""

import logging
from io import StringIO

import pytest
from pytorch_lightning.callbacks import RichProgressBar
from rich.console import Console

from tasks.common.progress import ProgressLines, progress_bar
from tasks.common.published import published
from tasks.common.table import closing_table
from train import train


def printed(table) -> str:
    stream = StringIO()
    Console(file=stream, width=120).print(table)
    return stream.getvalue()


def test_the_table_sets_the_run_between_floors_ceiling_and_paper() -> None:
    references = {"ceiling": {"cider": 80.0}, "input_blind": {"cider": 5.0}, "constant": {"cider": 1.0}}
    text = printed(closing_table("t", ["cider", "own"], {"cider": 42.123, "own": 1.0}, references, {"cider": "18.56"}))
    header, *rows = [line for line in text.splitlines() if "metric" in line or "cider" in line or "own" in line]
    order = ["metric", "constant", "input blind", "this run", "ceiling", "paper"]
    assert [header.index(name) for name in order] == sorted(header.index(name) for name in order)
    assert [cell.strip() for cell in rows[0].split("│")[1:-1]] == ["cider", "1.00", "5.00", "42.12", "80.00", "18.56"]
    assert "not recorded" in rows[1]


def test_brackets_in_a_name_are_printed() -> None:
    assert "R@5/16[rougeL]" in printed(closing_table("t", ["R@5/16[rougeL]"], {"R@5/16[rougeL]": 1.0}, {}, {}))


def test_a_headline_metric_without_a_value_is_left_out() -> None:
    assert "plain" not in printed(closing_table("t", ["cider", "cider_plain"], {"cider": 1.0}, {}, {}))


def test_a_figure_that_only_the_paper_has_is_shown() -> None:
    assert "rouge_l" in printed(closing_table("t", ["cider"], {"cider": 1.0}, {}, {"rouge_l": "13.54 ± 0.5"}))


def test_without_figures_of_the_paper_there_is_no_column_for_them() -> None:
    assert "paper" not in printed(closing_table("t", ["cider"], {"cider": 1.0}, {}, {}))


@pytest.mark.parametrize(
    ("overrides", "mean"),
    [
        (["experiment=qvhighlights_lcaam"], "42.32 ± 0.6"),
        (["experiment=qvhighlights_lcaam", "scale=mini"], None),
        (["experiment=qvhighlights_lcaam", "scale=smoke"], None),
        (["experiment=qvhighlights_lcaam", "data=charades_sta"], None),
        (["experiment=qvhighlights_lcaam", "data.name=TACoS"], None),
        (["task=moment_retrieval", "data=qvhighlights"], None),
    ],
)
def test_the_papers_figures_stand_beside_its_own_data_alone(
    compose_run, overrides: list[str], mean: str | None
) -> None:
    assert published(compose_run(*overrides)).get("mAP") == mean


@pytest.mark.parametrize(("terminal", "kind"), [(True, RichProgressBar), (False, ProgressLines)])
def test_a_bar_for_a_terminal_and_lines_for_a_file(monkeypatch, terminal: bool, kind: type) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    assert isinstance(progress_bar(), kind)


def test_the_summary_counts_parameters_and_nothing_it_does_not_know(tiny_run, capsys, monkeypatch) -> None:
    monkeypatch.setattr("tasks.common.progress.get_console", lambda: Console(width=120))
    train(tiny_run("floors.enabled=false"))
    text = capsys.readouterr().out
    assert [name in text for name in ("Name", "Type", "Params", "layer", "Linear")] == [True] * 5
    assert "3 parameters, 3 of them trained" in text
    assert "FLOPs" not in text


def test_a_line_per_validation(tiny_run, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tasks.common.progress"):
        train(tiny_run("floors.enabled=false"))
    lines = [record.getMessage() for record in caplog.records if record.name == "tasks.common.progress"]
    assert [line.split()[1] for line in lines] == ["4/8", "8/8"]
    assert "val/loss" in lines[-1]
