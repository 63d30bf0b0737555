"""Two runs into one folder: the second is refused and the first record stays, unless it goes on with that run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from configs.errors import ConfigError
from tasks.common.results import RunRecord
from tasks.common.run_folder import refuse_taken

TinyRun = Callable[..., DictConfig]


def test_a_second_run_into_one_folder_is_refused_and_the_record_stays(tiny_run: TinyRun) -> None:
    cfg = tiny_run()
    with RunRecord(cfg) as record:
        record.update(metrics={"error": 1.0})
    path = record.folder / "results.json"
    before = path.read_bytes(), (record.folder / "config.yaml").read_bytes()
    told = r"holds the record of another run \(.*, seed 0, completed, started "
    with pytest.raises(ConfigError, match=told), RunRecord(cfg):
        raise AssertionError("it began")
    assert (path.read_bytes(), (record.folder / "config.yaml").read_bytes()) == before


def test_the_run_that_goes_on_may_write_into_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{}")
    refuse_taken(tmp_path, str(tmp_path / "checkpoints" / "last.ckpt"))
    for other in (None, str(tmp_path.parent / "other" / "checkpoints" / "last.ckpt")):
        with pytest.raises(ConfigError, match=r"its results.json cannot be read"):
            refuse_taken(tmp_path, other)


def test_a_folder_without_a_record_is_free(tmp_path: Path) -> None:
    refuse_taken(tmp_path)
    refuse_taken(tmp_path / "not there")
