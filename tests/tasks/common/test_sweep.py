"""The table of a multirun, also if a job failed: then Hydra ends the program without telling its callbacks."""

import json
import subprocess
from pathlib import Path

from tests.programs import started
from tests.scripts.test_report import run

SWEEP = """
import sys
from omegaconf import OmegaConf
from tasks.common.sweep import SweepTable

folder, job, ending = sys.argv[1:]
hydra = {"mode": {"name": "MULTIRUN"}, "sweep": {"dir": folder}, "runtime": {"output_dir": job}}
cfg = OmegaConf.create({"hydra": hydra})
table = SweepTable()
table.on_multirun_start(cfg)
table.on_job_end(cfg, None)
if ending == "whole":
    table.on_multirun_end(cfg)
    print("made", flush=True)
else:
    raise SystemExit(1)
"""


def swept(folder: Path, ending: str) -> tuple[subprocess.CompletedProcess, Path]:
    job = folder / "job"
    job.mkdir()
    (job / "results.json").write_text(json.dumps(run("alone", cider=2.5)), encoding="utf-8")
    return started("-c", SWEEP, str(folder / "sweep"), str(job), ending), folder / "sweep" / "table.md"


def test_a_sweep_that_a_failed_job_ended_has_its_table(tmp_path: Path) -> None:
    done, table = swept(tmp_path, "broken")
    assert done.returncode == 1
    assert "| alone | 1 | 2.50 |" in table.read_text(encoding="utf-8")


def test_a_whole_sweep_has_its_table_at_its_end(tmp_path: Path) -> None:
    done, table = swept(tmp_path, "whole")
    assert (done.returncode, done.stdout) == (0, "made\n"), done.stderr
    assert "| alone | 1 | 2.50 |" in table.read_text(encoding="utf-8")
