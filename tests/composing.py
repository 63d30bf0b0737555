"""Composes a run without Hydra's application, as a notebook would."""

from pathlib import Path

from omegaconf import DictConfig

from configs.composing import composed as plainly_composed
from tasks.common.build import build

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"


def composed(folder: Path, *overrides: str) -> DictConfig:
    """What train.py would get for these overrides; outputs and data below `folder`."""
    return plainly_composed(*overrides, f"paths.log_dir={folder}/logs", f"paths.data_dir={folder}/data")


def facts_of(cfg: DictConfig) -> dict:
    """What the data module would tell the task, without data."""
    if "frames" in cfg.data:
        facts = {"frames": cfg.data.frames, "image_size": cfg.data.image_size, "train_texts": ["a word"]}
        if cfg.data.source != "features":
            return {**facts, "grid": None, "feature_dim": None}
        return {**facts, "grid": 32, "feature_dim": cfg.data.features.dim}
    if "image_size" in cfg.data:
        return {"classes": 1000, "image_size": cfg.data.image_size, "class_names": None, "train_counts": [1] * 1000}
    if "audio_dim" in cfg.data:
        facts = {name: cfg.data[name] for name in ("video_dim", "audio_dim", "tokens")}
        return {**facts, "train_texts": ["a word"]}
    return build(cfg.data).facts()
