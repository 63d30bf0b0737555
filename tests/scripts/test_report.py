"""The report's numbers against hand-computed ones; what is missing is said."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.report import groups, load, report

ROOT = Path(__file__).resolve().parents[2]


def run(experiment="base", seed=0, cider=1.0, status="completed", started="2026-01-01T00:00:00", **changes):
    record = {
        "format": 1,
        "status": status,
        "experiment": experiment,
        "scale": "mini",
        "seed": seed,
        "mask": {"scope": "none"},
        "data": {"root": "/somewhere", "sounds": "tones"},
        "parameters": {"encoder": 10, "masks": 2},
        "tested": "last",
        "metrics": {"cider": cider},
        "floors": {"constant": {"cider": 0.5}},
        "seconds": {"fit": 3.0},
        "started": started,
    }
    return record | changes


def test_means_deviations_and_paired_differences_equal_hand_computed_ones():
    runs = [run(seed=s, cider=c) for s, c in enumerate((1.0, 2.0, 6.0))]
    runs += [run("masked", seed=s, cider=c) for s, c in enumerate((2.0, 4.0, 9.0))]
    text = report(runs, ["cider"], "base")
    assert "| base | 3 | 3.00 ± 2.65 | 12 | 3 |" in text
    assert "| *constant* |  | 0.50 |" in text
    # differences 1, 2, 3: mean 2, sd 1, t(0.975, 2) = 4.3027, half width 4.3027 / sqrt(3) = 2.484
    assert "| masked | 3 | +2.00 [-0.48, +4.48] |" in text


def test_only_common_seeds_are_paired():
    runs = [run(seed=s, cider=float(s)) for s in (0, 1, 2)] + [run("masked", seed=s, cider=9.0) for s in (1, 2, 3)]
    assert "| masked | 2 | +7.50" in report(runs, None, "base")
    assert "| masked | 0 | - |" in report([run(seed=0), run("masked", seed=1)], None, "base")


def test_a_seed_that_ran_twice_counts_once_with_its_latest_run():
    runs = [run(seed=0, cider=1.0), run(seed=0, cider=5.0, started="2026-01-02T00:00:00")]
    (group,) = groups(runs)
    assert group[0]["metrics"]["cider"] == 5.0


def test_groups_are_named_by_what_differs():
    runs = [run(), run(seed=1, data={"root": "/elsewhere", "sounds": "tones"})]
    runs += [run(data={"root": "/somewhere", "sounds": "speech"})]
    text = report(runs, None, None)
    assert "| base data.sounds=tones | 2 |" in text
    assert "| base data.sounds=speech | 1 |" in text


def test_unfinished_runs_are_named_and_not_counted(tmp_path):
    for number, record in enumerate([run(), run(seed=1, status="failed"), run(seed=2, format=99)]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "results.json").write_text(json.dumps(record))
    runs, others = load(tmp_path)
    assert len(runs) == 1
    assert any("failed" in line for line in others)
    assert any("format 99" in line for line in others)


def test_an_empty_folder_is_an_error_a_shell_can_see(tmp_path):
    command = [sys.executable, "scripts/report.py", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no completed run" in done.stderr


def test_an_unknown_baseline_names_what_there_is():
    with pytest.raises(ValueError, match="no completed run of the baseline 'bose'; there are base"):
        report([run()], None, "bose")
