"""What a model reaches that has understood nothing: a score means something only as far as it stands above these.

`constant` (the best constant answer) and, where one exists, the `ceiling` come from the task; the input-blind model is
the task's own model with its inputs blanked, trained once per data configuration and kept under <data_dir>/floors/.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from filelock import FileLock
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import LightningDataModule, LightningModule

from tasks.common.build import build_module, build_trainer
from tasks.common.files import write_json
from tasks.common.remarks import quiet
from tasks.common.seeding import seed_run

log = logging.getLogger(__name__)

FORMAT = 1  # raise it when a change of the library changes what a blind training reaches
PLACES = ("root", "speech_dir", "num_workers")  # of the data: where they lie does not change what they are


def all_floors(
    cfg: DictConfig, module: LightningModule, datamodule: LightningDataModule
) -> dict[str, dict[str, float]]:
    """Floors (and ceiling) by name, each with its metrics."""
    return module.reference_scores(datamodule) | {"input_blind": blind_floor(cfg, datamodule)}


def blind_floor(cfg: DictConfig, datamodule: LightningDataModule) -> dict[str, float]:
    """The test metrics of the same experiment without inputs and mask, seed 0; trained once, then read back."""
    blind = blind_config(cfg)
    identity = what_it_depends_on(blind)
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = Path(cfg.paths.data_dir) / "floors" / f"{digest}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # jobs of a sweep that start together train it once
        if not path.is_file():
            log.info("training the input-blind floor (once per data configuration)")
            write_json(path, {"metrics": train_blind(blind, datamodule), **identity})
        return json.loads(path.read_text(encoding="utf-8"))["metrics"]


def blind_config(cfg: DictConfig) -> DictConfig:
    """The run's configuration with inputs blanked, no mask, seed 0, and nothing shown or saved."""
    blind = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    trainer = {
        "max_steps": cfg.floors.max_steps or cfg.trainer.max_steps,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_val_batches": 0,
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
    """What changes the blind model's scores, and so its file's name."""
    plain = OmegaConf.to_container(blind, resolve=True)
    return {
        "format": FORMAT,
        "data": {key: value for key, value in plain["data"].items() if key not in PLACES},
        "task": plain["task"],
        "max_steps": plain["trainer"]["max_steps"],
    }


def train_blind(blind: DictConfig, datamodule: LightningDataModule) -> dict[str, float]:
    """Trains and tests the blind model, without a word."""
    seed_run(blind.seed)
    module = build_module(blind, datamodule)
    with quiet():
        trainer = build_trainer(blind)
        trainer.fit(module, datamodule=datamodule)
        trainer.test(module, datamodule=datamodule, verbose=False)
    return dict(module.test_metrics)
