"""The run's record: `config.yaml` and `results.json` in the run's folder, there from the start and true at any time.

    with RunRecord(cfg) as record:
        with record.timed("fit"):
            trainer.fit(...)
        record.update(metrics=module.test_metrics)

`status` is `running` from the first line on, `completed` at the end, or `failed`, with the error, if one was raised
(Ctrl-C and other signals included). A run that was killed outright stays `running`. Of several ranks, the error of the
one that failed first is recorded (other_ranks.py). Tables, report and dashboard read only these files.

`resumed_from` is the checkpoint of an earlier run that this one goes on from, or null; `seconds` and `metrics.csv` are
then of all parts. `identity` is the hash of the settings (configs/identity.py), `wandb` the id of the W&B run, `group`
its group there. `evaluation` says what the test was of: how many samples of which split, where the split comes from,
and what was left out (datamodules/evaluated.py).
"""

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from configs.identity import FORMAT as IDENTITY_FORMAT
from configs.identity import deciding, identity
from datamodules.contract import only_places
from tasks.common import environment
from tasks.common.checkpoint_files import LAST
from tasks.common.errors import OtherRankError, StorageError
from tasks.common.files import strict, write_json, write_text
from tasks.common.interrupts import INTERRUPTS, interruption, requeue
from tasks.common.other_ranks import KILLED, OtherRanks, are_several, failure, lost_connection, message_of
from tasks.common.published import published
from tasks.common.resume import Resumed
from tasks.common.run_folder import refuse_taken
from tasks.common.wandb_runs import names

log = logging.getLogger(__name__)

FORMAT = 1  # format of results.json; a reader refuses a format that it does not know


def settings_of(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of results.json that say what a run is, of a resolved configuration."""
    return {
        "experiment": plain["name"],
        "scale": plain["scale_name"],
        "seed": plain["seed"],
        "mask": plain["mask"],
        "data": plain["data"],
        "places": only_places(plain["data"]),  # settings of the data that no result depends on
        "task": plain["task"],
        "trainer": {key: value for key, value in plain["trainer"].items() if key != "default_root_dir"},
        "tested": plain["test_checkpoint"],
    }


class RunRecord:
    """Writes and closes the record. On ranks other than the first it does everything but write.

    resumed: the earlier run that this one goes on with; its seconds and its W&B run are continued.
    wandb: id, group and name of the W&B run; empty without one.
    """

    def __init__(self, cfg: DictConfig, resumed: Resumed | None = None) -> None:
        plain = OmegaConf.to_container(cfg, resolve=True)
        self.config: dict[str, Any] = plain
        self.folder = Path(plain["paths"]["run_dir"])
        self.fields: dict[str, Any] = {
            "format": FORMAT,
            "status": "running",
            "error": None,
            **settings_of(plain),
            "metrics": {},
            "evaluation": {},
            "details": {},
            "optimized": {},
            "floors": {},
            "analysis": {},
            "paper": published(cfg),
            "parameters": {},
            "flops": None,
            "seconds": {},
            "peak_memory": {},
            "checkpoints": {},
            "versions": environment.versions(),
            "git": environment.git_state(),
            "command": environment.command(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "identity": identity(plain),
            "identity_format": IDENTITY_FORMAT,
            "resumed_from": None if resumed is None else str(resumed.path.absolute()),
            "wandb": None,
            "group": None,
        }
        self.wandb = names(plain, resumed and resumed.state["wandb"])
        self.fields |= {"wandb": self.wandb.get("id"), "group": self.wandb.get("group")}
        self._before = {} if resumed is None else resumed.seconds
        self._writing = threading.RLock()  # the thread that hears of the other ranks writes too
        self._running: dict[str, float] = {}  # when the parts that are going on began
        self._start = time.perf_counter()

    def facts(self) -> dict[str, Any]:
        """What every checkpoint keeps of this run (tasks/common/exact_resume.py)."""
        return {"settings": deciding(self.config), "wandb": self.fields["wandb"]}

    def lapsed(self) -> dict[str, float]:
        """Seconds so far, by part and `total`, of this run and the earlier ones that it goes on with."""
        now = time.perf_counter()
        own = {
            **self.fields["seconds"],
            **{part: self._so_far(part, now - since) for part, since in self._running.items()},
        }
        return {**own, "total": self._so_far("total", now - self._start)}

    def _so_far(self, part: str, seconds: float) -> float:
        return round(self._before.get(part, 0.0) + seconds, 3)

    def update(self, **fields: Any) -> None:
        """Sets fields and writes them at once."""
        unknown = fields.keys() - self.fields.keys()
        if unknown:
            raise KeyError(f"{sorted(unknown)} are not fields of results.json; it has {sorted(self.fields)}")
        with self._writing:
            self.fields |= fields
            if rank_zero_only.rank == 0:
                write_json(self.folder / "results.json", self.fields)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Records the seconds of a part as `seconds.<part>`."""
        self._running[part] = time.perf_counter()
        try:
            yield
        finally:
            self.fields["seconds"][part] = self._so_far(part, time.perf_counter() - self._running.pop(part))

    def __enter__(self) -> "RunRecord":
        self._start = time.perf_counter()
        self._others = None
        if are_several(self.config["trainer"]):
            self._others = OtherRanks(self.folder, lambda cause: self._close(**failure(cause)))
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        if rank_zero_only.rank == 0:
            refuse_taken(self.folder, self.fields["resumed_from"])
        self.update(status="running")
        if rank_zero_only.rank == 0:
            write_text(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(self.config)))
        self._signals = INTERRUPTS.installed()
        self._signals.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._signals.__exit__(None, None, None)
        self.fields["seconds"]["total"] = self.lapsed()["total"]
        self.fields["peak_memory"] = environment.peak_memory()
        cause = self._others.end(error) if self._others is not None else None
        if error is None:
            self.update(status="completed")
            return
        stopped = interruption(error)
        told = (stopped or error) if cause is None else OtherRankError(message_of(cause))
        message = f"{told} ({KILLED})" if cause is None and lost_connection(told) else str(told)
        own = {"status": "failed", "error": {"type": type(told).__name__, "message": message}}
        self._close(**(own if cause is None else failure(cause)))
        last = self.folder / "checkpoints" / LAST
        if rank_zero_only.rank == 0 and last.is_file():
            log.warning("the run ended early (%s); it goes on with resume=%s", type(told).__name__, self.folder)
        if stopped is not None and rank_zero_only.rank == 0:
            self._requeue(str(stopped))
        if cause is not None:
            raise told from error

    def _close(self, **fields: Any) -> None:
        """As `update`, but on a full disk it writes over the bytes that are there, in a shorter form."""
        try:
            self.update(**fields)
        except StorageError as error:
            log.error("%s", error)
            path = self.folder / "results.json"
            if path.is_file():
                try:
                    with path.open("r+", encoding="utf-8") as file:
                        file.write(json.dumps(strict(self.fields), ensure_ascii=False, allow_nan=False) + "\n")
                        file.truncate()
                except OSError as again:
                    log.error("%s keeps the status that it had: %s", path, again)

    def _requeue(self, signal: str) -> None:
        if signal != "SIGUSR1":
            return
        if self.config["resume"] != "auto":
            log.warning("the SLURM job is put into the queue again, and will begin anew: it has no resume=auto")
        requeue()
