"""A bounded part of `python -m scripts.torture files`: damaged copies of a file of every kind, by every reader."""

import zlib
from pathlib import Path

import pytest

from scripts.torture.damage import damaged
from scripts.torture.files import FAILED, READERS, judge_all
from scripts.torture.judging import OUTCOMES, Reader, Verdict, Worker, fingerprint, judged
from scripts.torture.video_readers import CONTAINERS
from tests.tiers import slow

COPIES = 69  # of each file
TAKES_LONG = {name: 23 for name in READERS if name.startswith(("LM", "config", "checkpoint"))}  # every 23rd copy
TAKES_LONG |= {name: 23 for name in CONTAINERS if name not in ("mkv", "webm")}
SLOW_TO_MAKE = ("zip bomb",)  # tests/datamodules/test_formats.py has a smaller one
CASES = [(name, TAKES_LONG.get(name, 6)) for name in READERS]


@pytest.mark.parametrize(("name", "every"), [*CASES, *(slow(name, 1) for name in READERS)])
def test_a_damaged_file_is_read_rightly_or_named_in_one_message(tmp_path: Path, name: str, every: int) -> None:
    reader = READERS[name]
    path = reader.make(tmp_path)
    whole, expected = path.read_bytes(), fingerprint(reader.read(path))
    copies = list(damaged(whole, seed=zlib.crc32(name.encode())))
    assert len(copies) == COPIES
    asking = [kind for kind in reader.asking if every == 1 or kind not in SLOW_TO_MAKE]
    chosen = copies[::every] + [(kind, reader.asking[kind](whole)) for kind in asking]
    for kind, data in chosen:
        verdict = judged(reader, path, data, expected)
        assert verdict.outcome not in FAILED, f"{kind}: {verdict}"
        assert verdict.outcome != "wrong" or reader.why, f"{kind}: other values"
    assert judged(reader, path, whole, expected) == Verdict("right")


def test_there_are_more_than_2000_files_and_28_readers() -> None:
    assert len(READERS) >= 28
    assert sum(COPIES + len(reader.asking) for reader in READERS.values()) >= 2000


def test_the_committed_table_has_every_reader_and_no_failure() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "results" / "damaged_files.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    counts = {cells[0]: list(map(int, cells[1:9])) for cells in rows if len(cells) == 10 and cells[1].isdecimal()}
    assert counts.keys() == {*READERS, "all"}
    for name, (files, *found) in counts.items():
        assert files == sum(found), name
        assert not any(found[OUTCOMES.index(outcome)] for outcome in FAILED), name
        if name != "all":
            assert files == COPIES + len(READERS[name].asking), name
            assert not found[OUTCOMES.index("wrong")] or READERS[name].why, name


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda path: path.read_bytes(), "wrong"),
        (lambda path: b"whole", "right"),
        (lambda path: 1 // 0, "raw"),
        (lambda path: READERS["json split"].read(path), "clear"),
    ],
)
def test_the_judge_tells_the_outcomes_apart(tmp_path: Path, read, outcome: str) -> None:
    reader = Reader("any", lambda folder: folder / "file.json", read)
    assert judged(reader, tmp_path / "file.json", b"damaged", fingerprint(b"whole")).outcome == outcome


@pytest.mark.slow
def test_a_process_that_dies_or_hangs_is_counted_and_started_again(tmp_path: Path, monkeypatch) -> None:
    path = READERS["json split"].make(tmp_path)
    whole = path.read_bytes()
    worker = Worker("json split", path, fingerprint(READERS["json split"].read(path)))
    try:
        assert worker.judge(whole) == Verdict("right")
        worker.process.kill()
        worker.process.join()
        assert worker.judge(whole) == Verdict("right")
        monkeypatch.setattr("scripts.torture.judging.SECONDS", 0)
        assert worker.judge(b"x").outcome == "hang"
        monkeypatch.undo()
        assert worker.judge(b"").outcome == "clear"
    finally:
        worker.stop()


@pytest.mark.slow
def test_a_reader_in_a_process_of_its_own_is_judged_as_here() -> None:
    found = judge_all(READERS["json class index"])
    assert len(found) == COPIES + 2
    assert {verdict.outcome for _, verdict in found} <= {"right", "clear", "said", "wrong"}
