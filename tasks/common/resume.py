"""`resume=`: which checkpoint a run goes on from, and whether it may.

    resume=logs/<...>/<time>                        a run's folder: its last.ckpt
    resume=logs/<...>/<time>/checkpoints/best.ckpt  a checkpoint
    resume=auto                                     the newest unfinished run of the same settings; none: a new run
    resume=branch                                   branch.ckpt of the newest run that is of another length only

A resumed run has a folder of its own. It must have the settings of the run that it goes on with, but for those that
cannot change results (configs/identity.py), or could only after the checkpoint's step (tasks/common/budgets.py).
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from configs.identity import apart, deciding, identity
from tasks.common.budgets import BUDGET, same_so_far
from tasks.common.checkpoint_files import BRANCH, LAST, PREVIOUS, bring, clean, read_checkpoint, readable
from tasks.common.errors import CheckpointError
from tasks.common.exact_resume import FORMAT, KEY

log = logging.getLogger(__name__)

AUTO, FROM_BRANCH = "auto", "branch"


@dataclass(frozen=True)
class Resumed:
    """The checkpoint that a run goes on from. state: what ExactResume put into it. step: its number of updates.

    facts: those of the data that it was trained on.
    """

    path: Path
    step: int
    state: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of the earlier parts, as far as the checkpoint."""
        return self.state["seconds"]

    def bring_to(self, folder: Path) -> None:
        """Makes the checkpoint the new run's own, so that it can be resumed from its first moment on."""
        clean(self.path.parent)
        bring(self.path, folder / LAST)


def resumed(cfg: DictConfig) -> Resumed | None:
    """What `resume=` asks for; None for a new run.

    Raises CheckpointError: no such file, damaged (and the one before it as well), of other settings, amid an update.
    """
    if cfg.resume is None:
        return None
    path = newest_branch(cfg) if cfg.resume == FROM_BRANCH else None
    if path is None:
        path = newest_unfinished(cfg) if cfg.resume == AUTO else checkpoint_of(cfg.resume)
    if path is None:
        log.info("resume=auto: no unfinished run of these settings below %s; a new run begins", places(cfg))
        return None
    path, content = readable(path)
    if not isinstance(content, dict) or content.get(KEY, {}).get("format") != FORMAT:
        raise CheckpointError(
            f"resume={path}: it holds weights, but not the state of a training of this version; begin a new run"
        )
    state = content[KEY]
    refuse_other_settings(path, state["settings"], cfg, content["global_step"])
    if state["amid_accumulation"]:
        raise CheckpointError(
            f"resume={path}: it was saved amid an accumulation of gradients, whose sum it does not hold; resume the "
            f"last.ckpt beside it (trainer.val_check_interval is not a multiple of trainer.accumulate_grad_batches)"
        )
    log.info("resuming %s, which is of step %s", path, content["global_step"])
    return Resumed(path, content["global_step"], state, content.get("hyper_parameters", {}).get("facts", {}))


def checkpoint_of(given: str) -> Path:
    """The checkpoint that a path means. Raises CheckpointError if there is none."""
    path = Path(given)
    if path.is_file():
        return path
    if path.name == LAST and path.with_name(PREVIOUS).is_file():
        return path  # `readable` takes the one before it
    if not path.is_dir():
        raise CheckpointError(
            f"resume={given}: there is no such file or folder; allowed: a run's folder, a checkpoint, auto, branch"
        )
    if (found := last_of(path) or last_of(path.parent if path.name == "checkpoints" else path)) is None:
        raise CheckpointError(f"resume={given}: the folder has no checkpoints/{LAST}: the run ended before its first")
    return found


def last_of(run: Path) -> Path | None:
    """A run's last.ckpt, also if only the one before it is there; None if there is neither."""
    folder = run / "checkpoints"
    return next((folder / LAST for name in (LAST, PREVIOUS) if (folder / name).is_file()), None)


def refuse_other_settings(path: Path, before: dict[str, Any], cfg: DictConfig, step: int) -> None:
    """Raises CheckpointError with every setting that differs and can change the results of `step` updates."""
    if found := [difference for difference in apart(before, cfg) if difference[0] != "name"]:
        if {key for key, *_ in found} <= BUDGET and same_so_far(before, deciding(cfg), step):
            return
        lines = [f"  {key}: {new} given, {old} in the checkpoint" for key, old, new in found]
        raise CheckpointError(
            f"resume={path}: a resumed run goes on with the settings that it began with, but these differ:\n"
            + "\n".join(lines)
        )


# resume=auto


def places(cfg: DictConfig) -> Path:
    """The folder of all runs of an experiment, scale and seed."""
    return Path(cfg.paths.run_dir).absolute().parent


def newest_unfinished(cfg: DictConfig) -> Path | None:
    """The last.ckpt of the newest run of these settings that neither completed nor was completed by another one."""
    wanted, own = identity(cfg), Path(cfg.paths.run_dir).absolute()
    runs = [run for run in records(places(cfg)) if run["identity"] == wanted and run["folder"] != own]
    by_folder = {run["folder"]: run for run in runs}
    done = [run for run in runs if run["status"] == "completed"]
    while done:
        run = done.pop()
        by_folder.pop(run["folder"], None)
        if run["resumed_from"] and (earlier := by_folder.get(Path(run["resumed_from"]).parent.parent)):
            done.append(earlier)
    for run in by_folder.values():
        clean(run["folder"] / "checkpoints")
    for run in sorted(by_folder.values(), key=lambda run: (run["started"], run["folder"].name), reverse=True):
        if (path := last_of(run["folder"])) is not None:
            return path
    return None


def newest_branch(cfg: DictConfig) -> Path:
    """The branch.ckpt of the newest run that this one differs from in its length alone, and only after that step.

    Raises CheckpointError if there is none.
    """
    own = deciding(cfg)
    for path in sorted(places(cfg).glob(f"*/checkpoints/{BRANCH}"), key=lambda path: path.parts[-3], reverse=True):
        content = read_checkpoint(path)
        before = content.get(KEY, {}).get("settings") if isinstance(content, dict) else None
        if before is None:
            continue
        others = {key for key, *_ in apart(before, cfg)} - {"name"}
        if others and others <= BUDGET and same_so_far(before, own, content["global_step"]):
            return path
    raise CheckpointError(
        f"resume={FROM_BRANCH}: no run below {places(cfg)} has a checkpoints/{BRANCH} whose steps would be this run's "
        "too; callbacks=budgets writes it, in a run of the same settings but for trainer.max_steps, whose task.warmup "
        "is as many steps"
    )


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """The readable results.json of the runs in a folder; one that a killed run left damaged is named and left out."""
    for path in folder.glob("*/results.json"):
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            wanted = {name: fields[name] for name in ("identity", "status", "resumed_from", "started")}
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            log.warning("resume=auto: %s is left out: %s: %s", path, type(error).__name__, error)
            continue
        yield {**wanted, "folder": path.parent.absolute()}
