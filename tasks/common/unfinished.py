"""Says that a run which is tested again never came to its end."""

import json
import logging
from pathlib import Path

from tasks.common.checkpoints import read_checkpoint

log = logging.getLogger(__name__)


def warn_if_unfinished(run: Path, checkpoint: Path, max_steps: int | None) -> None:
    """Warns, with the status of the run's record and the step of the checkpoint, unless the run is completed.

    Raises CheckpointError for a checkpoint that cannot be read.
    """
    status = status_of(run)
    if status == "completed":
        return
    step = read_checkpoint(checkpoint).get("global_step", "unknown")
    of = f" of {max_steps}" if isinstance(max_steps, int) and max_steps > 0 else ""
    log.warning(
        "this run did not finish (status %s, step %s%s): a whole run would not have tested %s",
        status, step, of, checkpoint,
    )  # fmt: skip


def status_of(run: Path) -> str:
    """The status in a run's results.json; "unknown" without a readable one."""
    try:
        return str(json.loads((run / "results.json").read_text(encoding="utf-8"))["status"])
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"
