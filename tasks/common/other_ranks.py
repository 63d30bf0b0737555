"""How a rank that fails tells the others why: the first one leaves failure.json in the run's folder.

Without it the first rank, which writes the run's record, would only know that a connection was closed, and a rank that
waits in an exchange might wait for hours. Each rank looks for the file in a thread; it then has some seconds to come to
an end by itself.

All ranks must see the first rank's folder, as they must for checkpoints.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from tasks.common.errors import OtherRankError

log = logging.getLogger(__name__)

FILE = "failure.json"
LOOK = 0.5  # seconds between two looks for the file
GRACE = 10.0  # seconds that a rank has to end by itself after another one failed
LATE = 5.0  # seconds in which the file of a rank that closed a connection must have come
KILLED = "no other rank left an error: one was killed, or its folder is another one"


def are_several(trainer: Mapping[str, Any]) -> bool:
    """Whether a run with these settings of the trainer may have other ranks."""
    started = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
    return started > 1 or str(trainer.get("devices", "auto")) != "1" or trainer.get("num_nodes", 1) != 1


def folder_of_first_rank(folder: Path) -> Path:
    """The first rank's folder, given this rank's: torchrun's other ranks have one of their own (configs/resolvers)."""
    return folder.with_name(folder.name.removesuffix(f"-rank{os.environ.get('RANK', '0')}"))


class OtherRanks:
    """The other ranks of a run, as far as this one hears of them."""

    def __init__(self, folder: Path, on_failure: Callable[[dict[str, Any]], None]):
        """folder: this rank's; on_failure: called at once, in another thread, with what another rank left."""
        self.path, self.on_failure = folder_of_first_rank(folder) / FILE, on_failure
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, name="other-ranks", daemon=True)
        self.thread.start()

    def watch(self) -> None:
        while not self.ended.wait(LOOK):
            if (cause := self.cause()) is None:
                continue
            self.on_failure(cause)
            if not self.ended.wait(GRACE):  # the main thread waits for a rank that is gone
                log.error("%s", message_of(cause))
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(1)
            return

    def cause(self) -> dict[str, Any] | None:
        """What the rank that failed first left, unless it is this one: its rank, and its error's type and message."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # not there, or not written to its end yet
            return None
        return None if found["rank"] == rank_zero_only.rank else found

    def end(self, error: BaseException | None = None) -> dict[str, Any] | None:
        """Ends the watch. With an error: leaves it for the others if it is the first, or returns what another left."""
        self.ended.set()
        self.thread.join()
        if error is None:
            return None
        cause = self.cause()
        if lost_connection(error):
            until = time.monotonic() + LATE
            while (cause := self.cause()) is None and time.monotonic() < until:
                time.sleep(LOOK / 5)
        if cause is None and isinstance(error, Exception) and not isinstance(error, OtherRankError):
            self.leave(error)
            cause = self.cause()  # another one may have been faster
        return cause

    def leave(self, error: Exception) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fields = {"rank": rank_zero_only.rank, "type": type(error).__name__, "message": str(error)}
        try:
            with self.path.open("x", encoding="utf-8") as file:
                json.dump(fields, file)
        except FileExistsError:
            pass


def lost_connection(error: BaseException) -> bool:
    """Whether the error says only that another rank is gone. Gloo's errors have no class of their own."""
    return isinstance(error, torch.distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def failure(cause: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the record of a run in which another rank failed."""
    return {"status": "failed", "error": {name: cause[name] for name in ("type", "message", "rank")}}


def message_of(cause: Mapping[str, Any]) -> str:
    return f"rank {cause['rank']} failed with {cause['type']}: {cause['message']}"
