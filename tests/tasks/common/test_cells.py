"""What a sweep says of its cells, from its notes and its runs' records."""

import json
from pathlib import Path

from tasks.common.cells import (
    CELLS,
    JOBS,
    Cell,
    commits_line,
    first_line,
    labels,
    missing_lines,
    note_cells,
    note_job,
    outcomes,
    rows_of,
)


def record(folder: Path, status: str, error: dict | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps({"status": status, "error": error}), encoding="utf-8")
    return folder


def noted(sweep: Path, seeds: int) -> None:
    note_cells(sweep, [Cell(["experiment=a", f"++seed={seed}"], number=seed) for seed in range(seeds)])


def test_every_way_to_leave_no_result_is_said_with_its_reason(tmp_path: Path) -> None:
    noted(tmp_path, 7)
    note_job(tmp_path, 0, folder=str(record(tmp_path / "0", "completed")), process=1)
    error = {"type": "NonFiniteLossError", "message": "train/loss is nan\nat step 3"}
    note_job(tmp_path, 1, folder=str(record(tmp_path / "1", "failed", error)))
    note_job(tmp_path, 2, folder=str(record(tmp_path / "2", "running")))
    note_job(tmp_path, 3, folder=str(record(tmp_path / "3", "running")))
    note_job(tmp_path, 3, error="killed by SIGKILL")
    note_job(tmp_path, 4, folder=str(tmp_path / "4"))
    note_job(tmp_path, 4, error="seed: abc is not a whole number")
    note_job(tmp_path, 5, folder=str(tmp_path / "5"))
    found = outcomes(tmp_path)
    assert first_line(found) == (
        "7 jobs: 1 counted, 5 failed (seed=1: NonFiniteLossError: train/loss is nan; seed=2: killed; "
        "seed=3: killed by SIGKILL; seed=4: seed: abc is not a whole number; seed=5: ended before its record began), "
        "1 never ran (seed=6)"
    )
    assert missing_lines(found) == [], "the first line names them all"


def test_what_was_known_before_is_counted_and_said(tmp_path: Path) -> None:
    known = str(record(tmp_path / "known", "completed"))
    note_cells(tmp_path, [Cell(["seed=0"], "a", folder=known), Cell(["seed=1"], "b", folder=known, source="old.csv")])
    assert first_line(outcomes(tmp_path)) == "2 jobs: 2 counted (2 known before, from old.csv)"


def test_an_equal_cell_shares_the_run_of_the_one_that_ran(tmp_path: Path) -> None:
    note_cells(tmp_path, [Cell(["mask=none"], "same", number=0), Cell(["mask=null"], "same")])
    note_job(tmp_path, 0, folder=str(record(tmp_path / "0", "completed")))
    assert first_line(outcomes(tmp_path)) == "2 jobs: 2 counted"


def test_many_missing_cells_are_listed_below(tmp_path: Path) -> None:
    noted(tmp_path, 9)
    found = outcomes(tmp_path)
    assert first_line(found).endswith("9 never ran (seed=0; seed=1; seed=2; seed=3; seed=4; seed=5; and 3 more)")
    assert missing_lines(found)[-1] == "- never ran: seed=8"
    assert len(missing_lines(found)) == 9


def test_a_cell_is_named_by_what_sets_it_apart() -> None:
    same = ["scale=mini", "hydra.launcher.n_jobs=2"]
    cells = [Cell([*same, "++seed=0", "mask=none"]), Cell([*same, "++seed=0", "mask=lcaam"])]
    assert labels(cells) == ["mask=none", "mask=lcaam"]
    assert labels(cells[:1]) == ["scale=mini seed=0 mask=none"]


def test_a_note_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    note_job(tmp_path, 0, folder="a")
    with (tmp_path / JOBS).open("a") as file:
        file.write('{"number": 1, "fol')
    assert [row["number"] for row in rows_of(tmp_path / JOBS)] == [0]
    assert rows_of(tmp_path / CELLS) == []


def test_runs_of_several_commits_are_said() -> None:
    clean, dirty = {"git": {"commit": "1234567890", "dirty": False}}, {"git": {"commit": "1234567890", "dirty": True}}
    assert commits_line([clean, clean]) == ""
    assert commits_line([clean, dirty, clean, {}]) == (
        "runs of 3 commits: 1234567 (2), 1234567 with changes (1), an unknown one (1)"
    )
