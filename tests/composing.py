"""Composes a run without Hydra's application, as a notebook would."""

from copy import deepcopy
from functools import cache
from io import StringIO
from pathlib import Path
from typing import IO, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf

from configs.command_line import marked
from configs.composing import composed as plainly_composed
from tasks.common.build import build
from tests.programs import ROOT

CONFIGS = ROOT / "configs"
parsed = cache(OmegaConf.create)


def load_once(file: str | Path | IO[Any]) -> DictConfig | ListConfig:
    """OmegaConf.load, which parses a text once: a quarter of the time that Hydra takes for a configuration."""
    text = Path(file).read_text(encoding="utf-8") if isinstance(file, str | Path) else file.read()
    return deepcopy(parsed(text)) if text.strip() else load(StringIO(text))


load, OmegaConf.load = OmegaConf.load, staticmethod(load_once)


def composed(folder: Path, *overrides: str, data: Path | None = None) -> DictConfig:
    """What train.py would get for these overrides; outputs below `folder`, data in `data` or below `folder` too.

    Files are read once per choice of files. Hydra sets the values that `marked` marks after all files are composed; so
    does this, in a copy.
    """
    arguments = marked((f"paths.log_dir={folder}/logs", f"paths.data_dir={data or folder / 'data'}", *overrides))
    values = [argument for argument in arguments if argument.startswith("++")]
    cfg = deepcopy(of_files(tuple(argument for argument in arguments if not argument.startswith("++"))))
    for value in OverridesParser.create().parse_overrides(values):
        OmegaConf.update(cfg, value.key_or_group, value.value(), merge=True, force_add=True)
    return cfg


@cache
def of_files(choices: tuple[str, ...]) -> DictConfig:
    return plainly_composed(*choices)


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
    if "context" in cfg.data:
        return {"context": cfg.data.context, "characters": " abcdefghijklmnopqrstuvwxyz"}
    return build(cfg.data).facts()
