"""Which runs a sweep takes as done, which it goes on with, and which begin anew."""

import json
import multiprocessing
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig

from configs.identity import identity
from tasks.common.cells import JOBS, rows_of
from tasks.common.known_runs import completed, held, identity_or_none, objective, place, unfinished
from tasks.common.run_rows import RowsError, read_rows, record_of, row_of, write_rows
from tasks.common.sweep_job import SweepJob, as_single_run, going_on, several_tasks


@pytest.fixture
def cfg(compose_run) -> DictConfig:
    return compose_run("experiment=qvhighlights_lcaam", "scale=smoke", "seed=3", "sweep.skip_completed=true")


def ran(cfg: DictConfig, name: str, status: str, error: str | None = None, last: bool = False, **changes) -> Path:
    """A run's folder as a run of `cfg` leaves it."""
    folder = place(cfg) / name
    (folder / "checkpoints").mkdir(parents=True)
    record = {"format": 1, "identity": identity(cfg), "status": status, "started": name, "error": {"type": error}}
    (folder / "results.json").write_text(json.dumps(record | changes), encoding="utf-8")
    if last:
        (folder / "checkpoints" / "last.ckpt").write_bytes(b"")
    return folder


def test_the_newest_completed_run_of_the_same_settings_counts(cfg: DictConfig) -> None:
    assert completed(cfg) is None
    ran(cfg, "1", "completed", optimized={"val/loss": 1.5})
    newest = ran(cfg, "2", "completed", optimized={"val/loss": 2.5})
    ran(cfg, "3", "completed", identity="that of other settings")
    ran(cfg, "4", "failed")
    ran(cfg, "5", "completed", format=99)
    folder, record = completed(cfg)
    assert folder == newest
    assert objective(record, "val/loss") == 2.5
    assert objective(record, "val/mAP") is None


def test_a_result_of_a_folder_elsewhere_with_the_same_name_counts_and_is_said(cfg: DictConfig, caplog) -> None:
    ran(cfg, "1", "completed", data={"root": str(cfg.data.root)})
    assert completed(cfg) is not None and not caplog.records
    ran(cfg, "2", "completed", data={"root": f"/elsewhere/{Path(cfg.data.root).name}"})
    assert completed(cfg) is not None
    assert "was of data.root=/elsewhere/" in caplog.text and "give the folders different names" in caplog.text


def test_a_record_that_is_older_than_identities_is_known_by_its_configuration(cfg: DictConfig) -> None:
    from omegaconf import OmegaConf

    folder = ran(cfg, "1", "completed", identity=None)
    assert completed(cfg) is None
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    assert completed(cfg)[0] == folder


@pytest.mark.parametrize(
    ("status", "error", "goes_on"),
    [("running", None, True), ("failed", "KeyboardInterrupt", True), ("failed", "Terminated", True),
     ("failed", "NonFiniteLossError", False), ("completed", None, False)],
)  # fmt: skip
def test_what_was_stopped_goes_on_and_what_failed_begins_anew(cfg: DictConfig, status, error, goes_on) -> None:
    folder = ran(cfg, "1", status, error, last=True)
    ran(cfg, "2", "running", last=False)
    assert unfinished(cfg) == (folder / "checkpoints" / "last.ckpt" if goes_on else None)


def test_settings_that_make_no_sense_have_no_identity(cfg: DictConfig) -> None:
    cfg.data._target_ = "no.such.Data"
    assert identity_or_none(cfg) is None


def test_one_process_at_a_time_holds_a_configuration(cfg: DictConfig, tmp_path: Path) -> None:
    (tmp_path / "order").mkdir()
    context = multiprocessing.get_context("fork")
    with held(cfg):
        other = context.Process(target=hold, args=(cfg, tmp_path / "order"))
        other.start()
        other.join(0.5)
        assert not list((tmp_path / "order").iterdir())
    other.join(20)
    assert other.exitcode == 0
    assert list((tmp_path / "order").iterdir())


def hold(cfg: DictConfig, folder: Path) -> None:
    with held(cfg):
        (folder / "held").touch()


# -- a job ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def job(cfg: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DictConfig:
    """Hydra's own configuration of a job of a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    overrides = ["sweep=table1bc", "++seed=3", "++resume=null"]
    hydra = {"sweep": {"dir": str(tmp_path / "sweep")}, "job": {"num": 7}, "run": {"dir": "elsewhere"}}
    hydra |= {"runtime": {"output_dir": str(tmp_path / "job")}, "overrides": {"task": overrides}}
    node = OmegaConf.create(hydra)
    OmegaConf.set_readonly(node, True)
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: node))
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "sweep=table1bc"])
    return node


def test_a_job_whose_result_came_meanwhile_does_not_run(cfg: DictConfig, job: DictConfig, tmp_path: Path) -> None:
    folder = ran(cfg, "1", "completed", optimized={"val/loss": 1.5})
    assert SweepJob(pytest.fail)(cfg) == 1.5
    assert rows_of(tmp_path / "sweep" / JOBS) == [{"number": 7, "folder": str(folder.absolute())}]


def test_a_job_goes_on_with_what_was_interrupted(cfg: DictConfig, job: DictConfig) -> None:
    folder = ran(cfg, "1", "running", last=True)
    expected = str(folder / "checkpoints" / "last.ckpt")
    assert SweepJob(lambda given: (given.resume, sys.argv))(cfg) == (
        expected,
        ["train.py", "++seed=3", f"++resume='{expected}'"],
    )
    assert sys.argv == ["train.py", "-m", "sweep=table1bc"], "as before"
    cfg.resume = "mine"
    assert going_on(cfg, folder).resume == "mine"


def test_without_skipping_a_job_just_runs(cfg: DictConfig, job: DictConfig) -> None:
    cfg.sweep.skip_completed = False
    ran(cfg, "1", "completed")
    assert SweepJob(lambda given: given.resume)(cfg) is None
    with as_single_run(cfg):
        assert sys.argv == ["train.py", "++seed=3", "++resume=null"]
        assert job.run.dir == job.runtime.output_dir, "the folder that other ranks get"


def test_tasks_of_a_cluster_s_job_decide_alike_without_a_lock(cfg: DictConfig, job: DictConfig, monkeypatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert several_tasks()
    with held(cfg):  # another rank would wait here for ever
        assert SweepJob(lambda given: given.resume)(cfg) is None


# -- csv files of runs ------------------------------------------------------------------------------------------------

RECORD = {
    "experiment": "a", "scale": "mini", "seed": 3, "started": "2026-01-01", "tested": "last",
    "metrics": {"R@5/16[rougeL]": 1.5, "mAP, all": None}, "floors": {"constant": {"mAP": 0.1}},
    "parameters": {"masks": 3}, "seconds": {"fit": 2.5, "total": 9}, "optimized": {"val/loss": 0.25},
    "git": {"commit": "abc", "dirty": True}, "flops": 12,
}  # fmt: skip


def test_a_run_comes_back_from_its_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    assert write_rows(path, [row_of(RECORD, "1d")]) == 1
    assert write_rows(path, [row_of(RECORD | {"seed": 10, "metrics": {"new": 1.0}, "flops": None}, "2d")]) == 2
    again = record_of(read_rows(path)["1d"], {"mask": {"scope": "none"}}, str(path))
    expected = RECORD | {"identity": "1d", "mask": {"scope": "none"}, "status": "completed", "source": str(path)}
    expected |= {
        "format": 1,
        "seconds": {"fit": 2.5},
        "interventions": {},
        "validations": {},
        "evaluation": {},
        "metrics": {**RECORD["metrics"], "new": None},
    }
    assert again == expected
    assert record_of(read_rows(path)["2d"], {}, str(path))["flops"] is None
    assert [row["seed"] for row in read_rows(path).values()] == ["3", "10"], "in the order of numbers"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "not a readable csv file"), (b"\xff\xfe\x00", "not a readable csv file"), (b"", "has no rows"),
     (b"identity,seed\n1d,3\n", "lacks the columns experiment, scale"), (b'a,"b\n', "not a readable csv file")],
)  # fmt: skip
def test_a_file_that_is_not_of_runs_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "rows.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RowsError, match=message) as caught:
        read_rows(path)
    assert str(path) in str(caught.value)


def test_a_value_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    row = {name: "" if value is None else str(value) for name, value in row_of(RECORD, "1d").items()}
    row["metric mAP"] = "high"
    with pytest.raises(RowsError, match=r"rows.csv, identity 1d: could not convert string to float: 'high'"):
        record_of(row, {}, "rows.csv")
