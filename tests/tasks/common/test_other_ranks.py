"""A rank that fails: the record has its error, whichever rank writes it, and a rank that waits for it ends."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from omegaconf import DictConfig
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch.distributed import TCPStore

from configs import resolvers
from datamodules.errors import DataError
from tasks.common import other_ranks
from tasks.common.errors import OtherRankError
from tasks.common.other_ranks import KILLED, are_several
from tasks.common.results import RunRecord
from tests.programs import ROOT

GLOO = RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:48049")


@pytest.fixture
def two_ranks(tiny_run, monkeypatch) -> DictConfig:
    monkeypatch.setattr(other_ranks, "LOOK", 0.02)
    monkeypatch.setattr(other_ranks, "LATE", 0.1)
    return tiny_run("trainer.devices=2")


def record_of(cfg: DictConfig) -> dict:
    return json.loads((Path(cfg.paths.run_dir) / "results.json").read_text(encoding="utf-8"))


def fail(cfg: DictConfig, rank: int, error: Exception, folder: str | None = None) -> None:
    """What becomes of a run in which `error` is raised on a rank."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank_zero_only, "rank", rank)
        patch.setenv("RANK", str(rank))
        if folder is not None:
            cfg = cfg.copy()
            cfg.paths.run_dir = folder
        with RunRecord(cfg):
            raise error


@pytest.mark.parametrize("suffix", ["", "-rank1"])  # Lightning's own launcher, torchrun
def test_the_record_has_the_error_of_the_rank_that_failed_first(two_ranks, suffix):
    with pytest.raises(DataError):
        fail(two_ranks, 1, DataError("movie 17 is damaged"), two_ranks.paths.run_dir + suffix)
    with pytest.raises(OtherRankError, match="rank 1 failed with DataError: movie 17 is damaged"):
        fail(two_ranks, 0, GLOO)
    record = record_of(two_ranks)
    assert record["status"] == "failed"
    assert record["error"] == {"type": "DataError", "message": "movie 17 is damaged", "rank": 1}


def test_an_error_of_the_first_rank_is_its_own_and_the_others_say_so(two_ranks):
    with pytest.raises(DataError):
        fail(two_ranks, 0, DataError("movie 3 is damaged"))
    assert record_of(two_ranks)["error"] == {"type": "DataError", "message": "movie 3 is damaged"}
    with pytest.raises(OtherRankError, match="rank 0 failed with DataError: movie 3"):
        fail(two_ranks, 1, GLOO)


def test_a_rank_that_was_killed_leaves_no_word_and_the_record_says_that(two_ranks):
    with pytest.raises(RuntimeError, match="closed by peer"):
        fail(two_ranks, 0, GLOO)
    assert record_of(two_ranks)["error"]["message"] == f"{GLOO} ({KILLED})"


def wait_for_ever(cfg: DictConfig) -> None:
    other_ranks.GRACE = 0.1
    with RunRecord(cfg):
        time.sleep(60)


def test_a_rank_that_waits_for_one_that_failed_ends(two_ranks):
    waiting = multiprocessing.get_context("fork").Process(target=wait_for_ever, args=(two_ranks,))
    waiting.start()
    while not (Path(two_ranks.paths.run_dir) / "config.yaml").is_file():
        time.sleep(0.01)
    with pytest.raises(DataError):
        fail(two_ranks, 1, DataError("movie 17 is damaged"))
    waiting.join(20)
    assert waiting.exitcode == 1
    assert record_of(two_ranks)["error"] == {"type": "DataError", "message": "movie 17 is damaged", "rank": 1}


def test_a_run_that_ends_well_leaves_nothing_and_watches_no_longer(two_ranks):
    with RunRecord(two_ranks) as record:
        watch = record._others.thread
        assert watch.is_alive()
    assert not watch.is_alive()
    assert record_of(two_ranks)["status"] == "completed"
    assert not (Path(two_ranks.paths.run_dir) / other_ranks.FILE).exists()


def test_a_run_of_one_process_watches_nobody(monkeypatch):
    assert not are_several({"devices": 1}) and not are_several({"devices": "1", "num_nodes": 1})
    assert are_several({"devices": 2}) and are_several({}) and are_several({"devices": 1, "num_nodes": 2})
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert are_several({"devices": 1})


def test_ranks_of_torchrun_agree_on_the_time_in_their_folders_names(monkeypatch):
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    variables = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0", "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**variables, "MASTER_PORT": str(store.port)}.items():
        monkeypatch.setenv(name, value)
    stamps = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setattr(resolvers, "ASKED", iter([0, 1]))
        stamps.append([resolvers.run_stamp(), resolvers.run_stamp()])
    assert stamps[0][0] != stamps[0][1]
    assert stamps[1] == [f"{stamp}-rank1" for stamp in stamps[0]]


FAILING = """
import os, sys
import pytorch_lightning as pl
import tasks.common.build as build, train
from configs.command_line import marked
from datamodules.errors import DataError

class Failing(pl.Callback):
    def on_train_batch_start(self, trainer, module, batch, index):
        if index == 2 and trainer.global_rank == 1:
            raise DataError("movie 17 is damaged")

def with_failure(cfg, *others, **more):
    trainer = build_trainer(cfg, *others, **more)
    trainer.callbacks.append(Failing())
    return trainer

build_trainer, build.build_trainer = build.build_trainer, with_failure
if __name__ == "__main__":
    sys.argv[1:] = marked(sys.argv[1:])
    train.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]])
def test_however_it_was_started_a_run_ends_with_the_error_of_the_rank_that_failed(launcher, tmp_path, generated):
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    options = ["experiment=qvhighlights_multi_lcaam", "scale=smoke", "callbacks=none", "data.batch_size=4"]
    options += ["trainer.devices=2", "trainer.strategy=ddp", f"paths.log_dir={tmp_path}/logs"]
    options += [f"paths.data_dir={generated}"]
    done = subprocess.run(
        [sys.executable, *launcher, str(script), *options],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    ended = time.time()
    assert done.returncode != 0
    (path,) = (tmp_path / "logs").rglob("results.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["status"] == "failed"
    assert record["error"] == {"type": "DataError", "message": "movie 17 is damaged", "rank": 1}
    assert ended - (path.parent / other_ranks.FILE).stat().st_mtime < 60
    assert "movie 17 is damaged" in done.stdout + done.stderr
