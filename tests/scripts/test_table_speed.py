"""Speed of learning: the first validation at which a run has come almost as far as the baseline does."""

from pathlib import Path

import pytest

from datamodules.errors import DataError
from scripts.learning_curves import logged
from scripts.table.speed import Speed, first_at, speeds, threshold
from scripts.table.summary import Row


def row(label: str, folder: Path, curves: dict[int, list[float]]) -> Row:
    """A row whose runs validated every 10 steps."""
    runs = {}
    for seed, values in curves.items():
        runs[seed] = {"folder": folder / f"{label}{seed}"}
        runs[seed]["folder"].mkdir()
        lines = ["step,train/loss,val/loss", *(f"{10 * n},,{value}" for n, value in enumerate(values, 1))]
        (runs[seed]["folder"] / "metrics.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Row(label, "0" * 16, [], list(curves), runs=runs)


def test_the_threshold_is_95_percent_of_the_baselines_way(tmp_path: Path):
    baseline = row("none", tmp_path, {0: [3.0, 2.0, 1.0], 1: [3.2, 2.0, 1.2], 2: [9.0, 2.0, 1.1]})
    mask = row("mask", tmp_path, {0: [1.0, 0.5, 0.4], 1: [3.0, 2.5, 2.4], 2: [2.0, 1.205, 1.3], 3: [3.0, 1.3, 1.2]})
    bound, (first, second) = speeds([baseline, mask], baseline)

    assert bound == pytest.approx(1.1 + 0.05 * (3.2 - 1.1))  # 1.205
    assert first.steps == {0: 30, 1: 30, 2: 30}
    assert second.steps == {0: 10, 1: None, 2: 20, 3: 30}
    assert (second.reached, second.median) == (3, 25)


def test_runs_that_never_come_there_count_as_slower_than_all():
    assert Speed("a", {0: 10, 1: None, 2: None}).median is None
    assert Speed("a", {0: 10, 1: 20, 2: None}).median == 20
    assert Speed("a", {}).median is None  # a row from a csv file


def test_without_two_validations_or_folders_there_is_no_threshold(tmp_path: Path):
    assert threshold({0: [(10, 1.0)]}) is None
    assert threshold({}) is None
    known = Row("none", "0" * 16, [], [0], runs={0: {"folder": None}})  # from a csv file
    assert speeds([known], known) == (None, [])
    assert first_at([(10, 2.0), (20, 1.0)], 0.5) is None


def test_a_row_from_a_csv_file_has_the_curve_that_the_file_kept():
    runs = {seed: {"folder": None, "validations": [[10, 3.0], [20, 1.0]]} for seed in (0, 1)}
    known = Row("none", "0" * 16, [], [0, 1], runs=runs)
    bound, (only,) = speeds([known], known)
    assert (bound, only.steps) == (pytest.approx(1.1), {0: 20, 1: 20})


def test_values_that_are_not_finite_are_left_out_and_a_damaged_file_is_named(tmp_path: Path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,val/loss\n10,nan\n20,1.5\n20,\nx,2\n", encoding="utf-8")
    assert logged(tmp_path) == {"val/loss": [(20, 1.5)]}
    path.write_bytes(b"step,val/loss\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="metrics.csv: not a readable csv file"):
        logged(tmp_path)
