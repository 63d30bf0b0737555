"""The two programs as a user starts them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import ROOT, started


def test_help_and_a_mistyped_group_do_not_wait_for_torch() -> None:
    command = [sys.executable, "-c", "import sys, train, eval; print('torch' in sys.modules)"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_mistyped_settings_are_one_message_without_a_stack_trace(tmp_path: Path) -> None:
    done = started("train.py", f"paths.log_dir={tmp_path}", "mask.fusoin=add", "experimnt=madv2_lcaam")
    assert done.returncode == 1
    assert "mask.fusoin: unknown key; did you mean 'fusion'?" in done.stderr
    assert "experimnt: unknown key; did you mean 'experiment'?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("results.json"))


@pytest.mark.parametrize("argument", ["run=/nowhere", "runn=/nowhere", "nonsense"])
def test_a_bad_evaluation_is_one_message(argument: str) -> None:
    done = started("eval.py", argument)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_eval_without_arguments_shows_how(tmp_path: Path) -> None:
    done = started("eval.py")
    assert (done.returncode, "python eval.py run=" in done.stdout) == (0, True)


def test_a_multirun_goes_on_past_a_failing_job_and_tells(tmp_path: Path) -> None:
    places = [f"paths.log_dir={tmp_path}/logs", f"paths.data_dir={tmp_path}/data"]
    done = started("train.py", "-m", "seed=-1,0", "scale=smoke", "debug=default", "hydra.searchpath=[]", *places)
    assert done.returncode == 1
    assert "seed: -1 is out of range; allowed: 0 to 4294967295" in done.stderr
    (record,) = tmp_path.glob("logs/custom/smoke/seed*/*/results.json")
    assert record.parts[-3] == "seed0"
    assert '"status": "completed"' in record.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_run_its_resumption_and_its_evaluation_below_a_folder_of_any_letters(tmp_path: Path) -> None:
    place = tmp_path / 'it\'s a=b, (1) {c} [d] #ü 走る "x"'
    settings = [
        "experiment=qvhighlights_lcaam",
        "scale=smoke",
        "logger=csv",
        "callbacks.figures=null",
        "floors.enabled=false",
    ]
    folders = [f"paths.log_dir={place}/logs", f"paths.data_dir={place}/data"]
    done = started("train.py", *settings, *folders, folder=ROOT)
    assert done.returncode == 0, done.stderr
    (record,) = place.glob("logs/qvhighlights_lcaam/smoke/seed0/*/results.json")
    resumed = started("train.py", *settings, *folders, f"resume={record.parent}/checkpoints/last.ckpt")
    assert resumed.returncode == 0, resumed.stderr
    assert len(list(place.glob("logs/qvhighlights_lcaam/smoke/seed0/*/results.json"))) == 2
    tested = started("eval.py", f"run={record.parent}")
    assert tested.returncode == 0, tested.stderr
    assert list(record.parent.glob("eval/*/metrics.json"))
