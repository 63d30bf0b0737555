"""Floors: what answers reach that do not use the input. A score means something only as far as it is above them.

`constant` (one answer for all) and, if there is one, the `ceiling` come from the task; the input-blind model is
the task's own model with its inputs blanked, trained once per data configuration and kept under <data_dir>/floors/.
"""

import hashlib
import json
import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch.distributed
from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import LightningDataModule, LightningModule

from datamodules.contract import only_places
from datamodules.errors import DataError
from datamodules.formats.json_text import read_json
from datamodules.formats.kept import checksum
from tasks.common.build import build_module, build_trainer
from tasks.common.captions import has_java
from tasks.common.files import strict, write_json
from tasks.common.other_ranks import are_several
from tasks.common.remarks import quiet
from tasks.common.seeding import seed_run

log = logging.getLogger(__name__)

FORMAT = 3  # raise it when a change of the library changes what a blind training reaches
UNSEEN = ("default_root_dir", "log_every_n_steps")  # settings of the trainer on which no score depends


def all_floors(
    cfg: DictConfig, module: LightningModule, datamodule: LightningDataModule
) -> dict[str, dict[str, float]]:
    """Floors (and ceiling) by name, each with its metrics.

    With several ranks only the first one calls it, and the input-blind model is not trained.
    """
    scores = module.reference_scores(datamodule)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        log.warning("the input-blind floor is left out: it is trained by runs of one process only")
        return scores
    return scores | {"input_blind": blind_floor(cfg, datamodule, scores)}


def blind_floor(
    cfg: DictConfig, datamodule: LightningDataModule, others: dict[str, dict[str, float]] | None = None
) -> dict[str, float]:
    """The test metrics of the same experiment without inputs and mask, seed 0; trained once, then read back.

    others: the other floors, which are made of the data anew in each run. If they are not what they were when this one
    was kept, the files have changed under the same settings, and it is trained again.
    """
    others = None if others is None else rounded(others)
    blind = blind_config(cfg)
    identity = what_it_depends_on(blind)
    path = place(cfg, identity)
    if kept := read(path, others):  # this also works in a folder that can only be read
        return kept
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(path.with_suffix(".lock")))  # jobs that start together train it once
        except OSError as error:
            log.info("the input-blind floor is trained for this run only: %s cannot be written (%s)", path, error)
            return train_blind(blind, datamodule)
        if kept := read(path, others):
            return kept
        log.info("training the input-blind floor (once per data configuration)")
        metrics = train_blind(blind, datamodule)
        try:
            kept = {"metrics": metrics, "sha256": checksum(strict(metrics)), "others": others}
            write_json(path, kept | identity)
        except OSError as error:  # a full disk must not lose a finished run
            log.info("the input-blind floor is not kept: %s cannot be written (%s)", path, error)
            return metrics
        return read(path) or metrics


def rounded(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Scores as they can be compared with those of another processor."""
    return {
        kind: {name: round(value, 3) if _is_score(value) and value is not None else None for name, value in own.items()}
        for kind, own in strict(scores).items()
    }


def place(cfg: DictConfig, identity: dict[str, Any]) -> Path:
    """The file of a floor; `identity` is what it depends on."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return Path(cfg.paths.data_dir) / "floors" / f"{digest}.json"


def missing_floor(cfg: DictConfig) -> Path | None:
    """The file of the input-blind floor that a run of one process would have to train; None if it has none to train."""
    if not cfg.floors.enabled or are_several(cfg.trainer):
        return None
    path = place(cfg, what_it_depends_on(blind_config(cfg)))
    return None if path.is_file() else path


def read(path: Path, others: dict[str, Any] | None = None) -> dict[str, float | None] | None:
    """The metrics of a floor that is kept; None if it is not there, or damaged, or of other data, which is said."""
    if not path.is_file():
        return None
    try:
        kept = read_json(path)
    except DataError as error:
        log.warning("%s The floor is trained again.", error)
        return None
    metrics = kept.get("metrics") if isinstance(kept, dict) else None
    whole = isinstance(metrics, dict) and metrics and all(_is_score(value) for value in metrics.values())
    if not whole or kept.get("sha256", checksum(metrics)) != checksum(metrics):  # older floors have no checksum
        log.warning("%s: not the scores that were kept there, so it is damaged. The floor is trained again.", path)
        return None
    if others is not None and kept.get("others") not in (None, others):  # older ones do not say
        log.warning("%s: the floor is of other files of the same name. It is trained again.", path)
        return None
    return metrics


def _is_score(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def blind_config(cfg: DictConfig) -> DictConfig:
    """The run's configuration with blank inputs, no mask, seed 0, all its data, and nothing shown or saved."""
    blind = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    trainer = {
        "max_steps": cfg.floors.max_steps or cfg.trainer.max_steps,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_train_batches": None,
        "limit_val_batches": 0,
        "limit_test_batches": None,
        "overfit_batches": 0.0,
        "accumulate_grad_batches": 1,
        "fast_dev_run": False,
        "profiler": None,
    }
    guard = {name: node for name, node in (blind.callbacks or {}).items() if name == "non_finite_loss"}
    changes = {
        "seed": 0,
        "task": {"blind": True},
        "mask": {"scope": "none", "fusion": "none", "control": "none"},
        "trainer": trainer,
    }
    merged = OmegaConf.merge(blind, changes)
    merged.callbacks, merged.logger = guard, None
    return merged


def what_it_depends_on(blind: DictConfig) -> dict[str, Any]:
    """What changes the blind model's scores, and therefore the name of its file."""
    plain = OmegaConf.to_container(blind, resolve=True)
    places = only_places(plain["data"])
    return {
        "format": FORMAT,
        "data": {key: value for key, value in plain["data"].items() if key not in places},
        "task": plain["task"],
        "trainer": {key: value for key, value in plain["trainer"].items() if key not in UNSEEN},
        "java": has_java(),  # it changes which metrics there are
    }


def train_blind(blind: DictConfig, datamodule: LightningDataModule) -> dict[str, float]:
    """Trains and tests the blind model, without any output."""
    seed_run(blind.seed)
    module = build_module(blind, datamodule)
    module.start()
    with quiet():
        trainer = build_trainer(blind)
        trainer.fit(module, datamodule=datamodule)
        trainer.test(module, datamodule=datamodule, verbose=False)
    return dict(module.test_metrics)
