"""Tasks in processes: whatever kills one, the others go on and nothing stays behind."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tasks.common.processes import Died, run_all
from tests.programs import ROOT, SERVER  # noqa: F401 - its server of processes has the libraries


def test_a_killed_task_fails_alone() -> None:
    told = []

    def work(task: int) -> int:
        if task == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if task == 2:
            os._exit(3)
        return task * 10

    results = run_all(work, range(5), at_once=2, told=lambda index, result: told.append(index))
    assert results == [0, Died(-9), Died(3), 30, 40]
    assert str(Died(-9)) == "killed by SIGKILL, perhaps because memory was used up"
    assert str(Died(-15)) == "killed by SIGTERM"
    assert str(Died(3)) == "its process ended with exit code 3"
    assert sorted(told) == [0, 1, 2, 3, 4]


def test_tasks_that_share_a_process_get_another_one_if_it_dies() -> None:
    def work(task: int) -> int:
        if task == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    first, died, third, fourth = run_all(work, range(4), at_once=1, per_process=3)
    assert died == Died(-9)
    assert first != third, "the process of the first task is gone"
    assert fourth not in (first, third), "each process gets three at most"
    same = run_all(lambda task: os.getpid(), range(3), at_once=2, per_process=3)
    assert len(set(same)) == 1


def test_a_task_has_the_environment_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LCAAM_TEST", "now")
    assert run_all(lambda task: os.environ.get("LCAAM_TEST"), [0], at_once=1) == ["now"]


def test_what_a_killed_task_started_ends_with_it(tmp_path: Path) -> None:
    def work(path: Path) -> None:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        path.write_text(str(child.pid))
        os.kill(os.getpid(), signal.SIGKILL)

    assert run_all(work, [tmp_path / "child"], at_once=1) == [Died(-9)]
    assert ends(int((tmp_path / "child").read_text()))


def ends(process: int, seconds: float = 10) -> bool:
    """Whether a process is gone, or a zombie, in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


SCRIPT = """
import os, sys, time
from functools import partial
from pathlib import Path
from tasks.common import processes

processes.PRELOADED = ()

def work(path):
    try:
        Path(path).write_text(str(os.getpid()))
        time.sleep(600)
    except BaseException as error:
        Path(path + ".told").write_text(type(error).__name__)
        raise

if __name__ == "__main__":
    try:
        processes.run_all(work, sys.argv[1:], at_once=2)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize(
    ("sent", "code", "told"),
    [(signal.SIGINT, 130, "KeyboardInterrupt"), (signal.SIGTERM, 130, "KeyboardInterrupt"), (signal.SIGKILL, -9, None)],
)
def test_the_end_of_the_launcher_is_the_end_of_its_tasks(tmp_path: Path, sent, code: int, told: str | None) -> None:
    script, paths = tmp_path / "script.py", [tmp_path / name for name in ("a", "b", "c")]
    script.write_text(SCRIPT)
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a program in the background is deaf
    with_project = {**os.environ, "PYTHONPATH": str(ROOT)}
    launcher = subprocess.Popen([sys.executable, script, *paths], env=with_project, preexec_fn=heard)
    while not (paths[0].is_file() and paths[1].is_file() and paths[1].read_text()):
        assert launcher.poll() is None
        time.sleep(0.02)
    launcher.send_signal(sent)
    assert launcher.wait(30) == code
    assert all(ends(int(path.read_text())) for path in paths[:2])
    assert not paths[2].exists()
    if told is not None:
        assert [Path(f"{path}.told").read_text() for path in paths[:2]] == [told, told]
