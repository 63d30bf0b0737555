"""Which runs of a configuration exist already: completed ones, and unfinished ones that can go on.

with held(cfg):                     # nobody else runs the same configuration meanwhile
    found = completed(cfg)          # the newest completed run's record and folder, or None
    path = unfinished(cfg)          # the last.ckpt of the newest interrupted run that has one, or None
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.errors import ConfigError
from configs.identity import FORMAT as IDENTITY_FORMAT
from configs.identity import identity
from datamodules.formats.json_text import read_json

log = logging.getLogger(__name__)

FORMAT = 1  # of results.json (tasks/common/results.py, which imports torch)
DIVERGED = "NonFiniteLossError"  # error of a run whose loss was not a number
INTERRUPTED = ("KeyboardInterrupt", "Terminated", "SystemExit")  # errors of a run that was told to end


def identity_or_none(cfg: DictConfig) -> str | None:
    """The identity of a configuration; None if its settings make no sense, which the run itself will say."""
    try:
        return identity(cfg)
    except (ConfigError, OmegaConfBaseException, LookupError, TypeError, ValueError) as error:
        log.debug("no identity: %s", error)
        return None


def place(cfg: DictConfig) -> Path:
    """The folder with the runs of a configuration's name, scale and seed."""
    return Path(cfg.paths.log_dir) / str(cfg.name) / str(cfg.scale_name) / f"seed{cfg.seed}"


@contextmanager
def held(cfg: DictConfig) -> Iterator[None]:
    """Waits until no other process holds the configuration's lock, and holds it; a killed process lets go of it."""
    path = place(cfg) / f".{identity(cfg)}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


def runs(cfg: DictConfig, mine: str | None = None) -> list[tuple[Path, dict[str, Any]]]:
    """The folders and records of all runs with the configuration's identity, oldest first.

    mine: the identity, if it is known already. Raises DataError for a record that is not JSON.
    """
    mine = identity(cfg) if mine is None else mine
    found = []
    for path in place(cfg).glob("*/results.json"):
        record = read_json(path)
        if record.get("format") == FORMAT and identity_of(path.parent, record) == mine:
            found.append((path.parent, record))
    return sorted(found, key=lambda pair: (pair[1]["started"], pair[0].name))


def identity_of(folder: Path, record: dict[str, Any]) -> str | None:
    """A run's identity; if its record has none, or one of another format, that of its configuration. None without."""
    path = folder / "config.yaml"
    if record.get("identity") and (record.get("identity_format") == IDENTITY_FORMAT or not path.is_file()):
        return record["identity"]
    return identity(OmegaConf.load(path)) if path.is_file() else None


def completed(cfg: DictConfig) -> tuple[Path, dict[str, Any]] | None:
    """The newest completed run of a configuration. A folder of data that was moved keeps its name, and is the same
    data; that it has another place is said."""
    found = next((pair for pair in reversed(runs(cfg)) if pair[1]["status"] == "completed"), None)
    if found is not None:
        there, here = (str((node or {}).get("root") or "") for node in (found[1].get("data"), cfg.get("data")))
        if there and Path(there).absolute() != Path(here).absolute():
            log.warning(
                "%s counts as this run, and was of data.root=%s; here it is %s. If these are not the same data, give "
                "the folders different names", found[0], there, here,
            )  # fmt: skip
    return found


def made_before(cfg: DictConfig) -> Path | None:
    """The folder of a completed run of these settings, if `sweep.skip_completed` asks for it and this is a single run;
    a job of a sweep looks by itself (tasks/common/sweep_job.py)."""
    if not cfg.sweep.skip_completed or HydraConfig.get().mode == RunMode.MULTIRUN or identity_or_none(cfg) is None:
        return None
    found = completed(cfg)
    return None if found is None else found[0]


def unfinished(cfg: DictConfig) -> Path | None:
    """The last.ckpt of the newest run that was killed or told to end; a run that failed starts anew."""
    from tasks.common.resume import last_of  # imports torch, which the table of a sweep can do without

    for folder, record in reversed(runs(cfg)):
        stopped = record["status"] == "running" or (record.get("error") or {}).get("type") in INTERRUPTED
        if stopped and (path := last_of(folder)) is not None:
            return path
    return None


def objective(record: dict[str, Any], metric: str | None) -> float | None:
    """What a sweeper gets back from a run that is known; None if the run recorded another metric."""
    return (record.get("optimized") or {}).get(metric)
