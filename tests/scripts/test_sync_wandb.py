"""Uploads of offline runs with a stand-in for `wandb sync`: each exactly once, failures named and tried again."""

import json
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from scripts.sync_wandb import main, synced, uploader
from tests.programs import started

STAND_IN = """
import json, pathlib, sys
place = pathlib.Path(sys.argv[1])
words = sys.argv[2:]
id = words[1] if words[0] == "--id" else None
folders = [pathlib.Path(word) for word in words[2 if id else 0:]]
if id and not all(folder.name.endswith("-" + id) for folder in folders):
    sys.exit("another run's id")
with (place / "calls.jsonl").open("a") as file:
    file.write(json.dumps([*(["--id"] if id else []), *(folder.name for folder in folders)]) + "\\n")
refused = (place / "refused").read_text().split() if (place / "refused").exists() else []
for folder in folders:
    if any(word in folder.name for word in refused):
        sys.exit("wandb: ERROR the server said no")
    if not (place / "logged_out").exists():
        (file,) = folder.glob("*.wandb")
        file.with_name(file.name + ".synced").touch()
print("wandb: Not authenticated." if (place / "logged_out").exists() else "wandb: Done.")
"""


class Place:
    """A folder of logs with made-up runs, and a stand-in for `wandb sync` that marks what it uploads as W&B does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.logs = folder, folder / "logs"
        (folder / "stand_in.py").write_text(STAND_IN)
        self.sync = (sys.executable, str(folder / "stand_in.py"), str(folder))

    def run(self, id: str | None, began: str, status: str = "completed", resumed: Path | None = None) -> Path:
        folder = self.logs / "madv2_lcaam" / "smoke" / "seed0" / began
        folder.mkdir(parents=True)
        last = None if resumed is None else str(resumed / "checkpoints" / "last.ckpt")
        record = {"started": began, "status": status, "wandb": id, "resumed_from": last}
        (folder / "results.json").write_text(json.dumps(record))
        if id is not None:
            part = folder / "wandb" / f"offline-run-20261129_{began}-{id}"
            part.mkdir(parents=True)
            (part / f"run-{id}.wandb").touch()
        return folder

    def multirun(self, *runs: Path, sweep: str = "table1a") -> Path:
        folder = self.logs / "multirun" / "2026-11-29"
        (folder).mkdir(parents=True)
        cells = [{"overrides": [f"seed={n}"], "identity": str(n), "number": n} for n in range(len(runs))]
        jobs = [{"number": n, "folder": str(run)} for n, run in enumerate(runs)]
        for name, rows in (("cells.jsonl", cells), ("jobs.jsonl", jobs)):
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "multirun.yaml").write_text(f"hydra:\n  runtime:\n    choices:\n      sweep: {sweep}\n")
        return folder

    def upload(self, *words: object) -> int:
        return main([*map(str, words), "--logs", str(self.logs)], self.sync)

    @property
    def calls(self) -> list[list[str]]:
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_sweep_is_uploaded_once(place: Place, capsys: pytest.CaptureFixture) -> None:
    place.multirun(place.run("aa", "100000"), place.run("bb", "100100"), place.run(None, "100200"))
    place.run("cc", "100300")  # of no sweep
    assert place.upload("table1a") == 0
    assert place.calls == [["offline-run-20261129_100000-aa"], ["offline-run-20261129_100100-bb"]]
    assert "2 runs: 2 uploaded, 0 uploaded before, 0 failed, 0 not ended" in capsys.readouterr().out
    assert place.upload("table1a") == 0
    assert len(place.calls) == 2, "the second call uploads nothing"
    assert "2 runs: 0 uploaded, 2 uploaded before" in capsys.readouterr().out
    assert place.upload(place.logs) == 0  # another way to the same runs, and one more
    assert place.calls[2:] == [["offline-run-20261129_100300-cc"]]


def test_a_failed_upload_is_named_and_tried_again(place: Place, capsys: pytest.CaptureFixture) -> None:
    folder = place.multirun(*(place.run(id, f"10000{n}") for n, id in enumerate(("aa", "bb", "cc"))))
    (place.folder / "refused").write_text("bb")
    assert place.upload(folder) == 1
    said = capsys.readouterr()
    assert "failed: bb: " in said.err and "exit status 1: wandb: ERROR the server said no" in said.err
    assert "3 runs: 2 uploaded, 0 uploaded before, 1 failed" in said.out, "the others went on"
    (place.folder / "refused").unlink()
    assert place.upload(folder) == 0
    assert place.calls[3:] == [["offline-run-20261129_100001-bb"]]


def test_an_upload_without_a_login_has_failed_though_wandb_ends_with_0(place: Place, capsys) -> None:
    run = place.run("aa", "100000")
    (place.folder / "logged_out").touch()
    assert place.upload(place.logs) == 1
    assert "W&B did not mark it as uploaded: wandb: Not authenticated." in capsys.readouterr().err
    assert not synced(next(run.glob("wandb/offline-run-*")))


def test_the_parts_of_a_resumed_run_go_up_together_in_their_order(place: Place, capsys) -> None:
    first = place.run("aa", "100000", status="running")  # killed
    second = place.run("aa", "110000", status="failed", resumed=first)
    last = place.run("aa", "120000", resumed=second)
    place.multirun(last)  # the sweep knows the last part only
    assert place.upload("table1a", "--dry-run") == 0
    said = capsys.readouterr().out
    assert (
        place.calls == [] and "would upload aa (3 parts)" in said and "1 runs: 1 to upload, 0 uploaded before" in said
    )
    assert place.upload("table1a") == 0
    parts = [f"offline-run-20261129_{time}-aa" for time in ("100000", "110000", "120000")]
    assert place.calls == [["--id", *parts]]


def test_what_a_broken_upload_left_of_a_run_goes_up_alone(place: Place) -> None:
    first = place.run("aa", "100000", status="failed")
    place.run("aa", "110000", resumed=first)
    (place.folder / "refused").write_text("110000")
    assert place.upload(place.logs) == 1
    (place.folder / "refused").unlink()
    assert place.upload(place.logs) == 0
    assert place.calls[1:] == [["--id", "offline-run-20261129_110000-aa"]]


def test_a_run_that_has_not_ended_is_left_out_with_its_earlier_parts(place: Place, capsys) -> None:
    first = place.run("aa", "100000", status="running")
    place.run("aa", "110000", status="running", resumed=first)
    place.run("bb", "120000", status="failed")
    assert place.upload(place.logs) == 0
    said = capsys.readouterr()
    assert place.calls == [["offline-run-20261129_120000-bb"]]
    assert "left out: aa (2 parts)" in said.err and "1 not ended" in said.out
    assert place.upload(place.logs, "--killed") == 0
    assert place.calls[1:] == [["--id", "offline-run-20261129_100000-aa", "offline-run-20261129_110000-aa"]]


def test_two_processes_do_not_upload_one_run(place: Place, capsys) -> None:
    run = place.run("aa", "100000")
    with FileLock(run / "wandb" / ".upload.lock"):
        assert place.upload(place.logs) == 1
    assert "another process is uploading it" in capsys.readouterr().err and place.calls == []


def test_a_program_that_is_not_there_is_named(place: Place, capsys) -> None:
    place.run("aa", "100000")
    assert main([str(place.logs)], (str(place.folder / "nothing"), "sync")) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("tabel1a", "tabel1a: neither a folder nor a sweep; did you mean 'table1a'?"),
        ("table1bc", "table1bc: no multirun of this sweep below"),
        ("empty", "no run has begun there"),
        ("silent", "1 runs, none with an offline run of W&B"),
        ("broken", "results.json: not the record of a run"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(place: Place, capsys, words: str, problem: str) -> None:
    place.multirun(place.run(None, "100000"))
    for name in ("empty", "silent", "broken"):
        (place.folder / name).mkdir()
    (place.folder / "broken" / "results.json").write_text("[")
    (place.folder / "silent" / "results.json").write_text('{"started": "", "status": "completed"}')
    given = place.folder / words if (place.folder / words).is_dir() else words
    assert place.upload(given) == 1
    said = capsys.readouterr().err
    assert problem in said and said.count("\n") == 1


def test_the_installed_wandb_takes_folders_and_needs_no_answer() -> None:
    """--help names what is used: paths and --id; a question is asked only if no path is given."""
    done = started(*uploader()[1:], "--help")
    assert done.returncode == 0 and "[PATHS]..." in done.stdout and "--id" in done.stdout
    assert "order of start time" in " ".join(done.stdout.split())
