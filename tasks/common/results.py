"""The run's record: `config.yaml` and `results.json` in the run's folder, there from the start and true at any time.

    with RunRecord(cfg) as record:
        with record.timed("fit"):
            trainer.fit(...)
        record.update(metrics=module.test_metrics)

`status` is `running` from the first line on, `completed` at the end, or `failed`, with the error, if one was raised
(Ctrl-C and SIGTERM included). A run that was killed outright stays `running`. Of several ranks the error of the one
that failed first is recorded (other_ranks.py). Tables, report and dashboard read only these files.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from datamodules.contract import only_places
from tasks.common import environment
from tasks.common.errors import OtherRankError
from tasks.common.files import write_json, write_text
from tasks.common.other_ranks import KILLED, OtherRanks, are_several, lost_connection, message_of
from tasks.common.table import published

FORMAT = 1  # format of results.json; a reader refuses a format that it does not know


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception: a scheduler's end of the job unwinds like Ctrl-C, so the record is closed."""


class RunRecord:
    """Writes and closes the record. On ranks other than the first it does everything but write."""

    def __init__(self, cfg: DictConfig) -> None:
        plain = OmegaConf.to_container(cfg, resolve=True)
        self.config: dict[str, Any] = plain
        self.folder = Path(plain["paths"]["run_dir"])
        self.fields: dict[str, Any] = {
            "format": FORMAT,
            "status": "running",
            "error": None,
            "experiment": plain["name"],
            "scale": plain["scale_name"],
            "seed": plain["seed"],
            "mask": plain["mask"],
            "data": plain["data"],
            "places": only_places(plain["data"]),  # settings of the data that no result depends on
            "task": plain["task"],
            "trainer": {key: value for key, value in plain["trainer"].items() if key != "default_root_dir"},
            "metrics": {},
            "floors": {},
            "analysis": {},
            "paper": published(cfg),
            "parameters": {},
            "flops": None,
            "seconds": {},
            "peak_memory": {},
            "checkpoints": {},
            "tested": plain["test_checkpoint"],
            "versions": environment.versions(),
            "git": environment.git_state(),
            "command": environment.command(),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }

    def update(self, **fields: Any) -> None:
        """Sets fields and writes them at once."""
        unknown = fields.keys() - self.fields.keys()
        if unknown:
            raise KeyError(f"{sorted(unknown)} are not fields of results.json; it has {sorted(self.fields)}")
        self.fields |= fields
        if rank_zero_only.rank == 0:
            write_json(self.folder / "results.json", self.fields)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Records the seconds of a part as `seconds.<part>`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.fields["seconds"][part] = round(time.perf_counter() - start, 3)

    def __enter__(self) -> "RunRecord":
        self._start = time.perf_counter()
        self._others = OtherRanks(self.folder, self._other_failed) if are_several(self.config["trainer"]) else None
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self.update(status="running")
        if rank_zero_only.rank == 0:
            write_text(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(self.config)))
        self._previous = None
        if threading.current_thread() is threading.main_thread():  # signals belong to it
            self._previous = signal.signal(signal.SIGTERM, _terminate)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)
        self.fields["seconds"]["total"] = round(time.perf_counter() - self._start, 3)
        self.fields["peak_memory"] = environment.peak_memory()
        if isinstance(error, SystemExit) and error.__context__ is not None:
            error = error.__context__  # Lightning turns Ctrl-C during training into SystemExit
        cause = self._others.end(error) if self._others is not None else None
        if error is None:
            self.update(status="completed")
            return
        if cause is not None:
            self._other_failed(cause)
            raise OtherRankError(message_of(cause)) from error
        message = f"{error} ({KILLED})" if lost_connection(error) else str(error)
        self.update(status="failed", error={"type": type(error).__name__, "message": message})

    def _other_failed(self, cause: dict[str, Any]) -> None:
        self.update(status="failed", error={name: cause[name] for name in ("type", "message", "rank")})


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise Terminated("SIGTERM")
