"""The first steps of a run, with a small model on the fake files: training, validation, checkpoint, test, record."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from configs.schema import validate

STEPS = 3
SIDE = 64  # pixels; pictures are decoded at their full size and then made as small as this


def shrunk(cfg: DictConfig, small: DictConfig, folder: Path) -> DictConfig:
    """The configuration of `cfg` with the model of `small` (the same experiment at scale=smoke).

    Files, streams, lengths, loss, callbacks and the rule of the tested checkpoint stay; pictures get SIDE pixels.
    """
    cfg = cfg.copy()
    with open_dict(cfg):
        for name in ("validate_text", "meteor"):
            if name in cfg.task:
                small.task[name] = cfg.task[name]
        cfg.task, cfg.mask = small.task, small.mask
        cfg.logger = None
        cfg.floors.enabled = False
        cfg.threads = 1
        cfg.paths.run_dir = str(folder)
        cfg.data.num_workers = 0
        cfg.data.batch_size = cfg.data.eval_batch_size = 2
        if cfg.data.get("image_size", 0) > SIDE:
            cfg.data.image_size = SIDE
        cfg.trainer.update(accelerator="cpu", devices=1, precision="32-true", strategy="auto", max_steps=STEPS)
        cfg.trainer.update(val_check_interval=STEPS, check_val_every_n_epoch=None, accumulate_grad_batches=1)
        cfg.trainer.update(enable_progress_bar=False, log_every_n_steps=1)
        if cfg.callbacks:
            cfg.callbacks.update({name: None for name in ("progress_bar", "model_summary") if name in cfg.callbacks})
    return cfg


def run_first_steps(cfg: DictConfig, small: DictConfig, folder: Path) -> tuple[dict[str, float], list[str]]:
    """Runs train.py's own function. Returns the test's metrics and the names of the files that the run left."""
    from train import train

    cfg = shrunk(cfg, small, folder)
    validate(cfg)
    with quiet():
        train(cfg)
    record = OmegaConf.load(folder / "results.json")
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    wanted = ["config.yaml", "results.json", "predictions/test.jsonl"]
    if lacking := [name for name in wanted if name not in files]:
        raise RuntimeError(f"the run left no {', '.join(lacking)}")
    if record.status != "completed":
        raise RuntimeError(f"the run ended as {record.status}")
    return dict(record.metrics), files


@contextlib.contextmanager
def quiet():
    """Inside, what a run prints and logs below an error is left out."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
