"""The size of masks after training, from the files of runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from scripts.studies import stability

RECORD = {
    "status": "completed",
    "error": None,
    "identity": "1d",
    "experiment": "shakespeare_multi_lcaam",
    "mask": {"scope": "per_layer", "kind": "context", "fusion": "mul"},
    "data": {"context": 256},
    "trainer": {"max_steps": 300},
    "seed": 0,
    "started": "1",
    "metrics": {"test_loss": 1.5},
    "git": {"commit": "abc"},
}


def run(folder: Path, **changes) -> Path:
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(RECORD | changes), encoding="utf-8")
    return folder


def write_layers(folder: Path) -> None:
    (folder / "analysis").mkdir()
    first, edges = np.histogram([-3.0, 1.0, 1.0, 2.0], bins=60)
    second, more = np.histogram([0.5, 7.0], bins=60)
    arrays = {"values 0": first, "edges 0": edges, "values 1": second, "edges 1": more}
    np.savez(folder / "analysis" / "layers.npz", sizes=np.array([[64, 64], [64, 128]]), **arrays)


def test_the_largest_value_and_the_share_below_zero_are_those_of_each_layer(tmp_path: Path, capsys):
    write_layers(run(tmp_path / "runs" / "a"))
    run(tmp_path / "runs" / "b", identity="2d", status="failed", error={"type": stability.DIVERGED}, metrics={})
    run(tmp_path / "runs" / "c", identity="3d", status="running")
    stability.main([str(tmp_path / "runs"), "--csv", str(tmp_path / "sizes.csv")])

    lines = (tmp_path / "sizes.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3  # a run that goes on has no line
    assert "1d,shakespeare_multi_lcaam,context per_layer,mul,128,0,300,1.5,3 7,0.2500 0.0000,abc" in lines
    told = capsys.readouterr().out
    assert "| 128 | context per_layer | mul | 1 | 0 | 1.500 | 3, 7 |" in told
    assert "| 256 | context per_layer | mul | 1 | 1 | - | - |" in told


def test_a_run_without_the_file_of_its_masks_is_named(tmp_path: Path):
    run(tmp_path / "a")
    with pytest.raises(SystemExit, match=r"layers.npz: there is no such file; runs with logged figures write it"):
        stability.main([str(tmp_path), "--csv", str(tmp_path / "sizes.csv")])
