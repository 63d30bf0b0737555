"""A folder with a small, untrained CLIP, as transformers saves it, and a small model on its rows."""

from pathlib import Path

import torch

from scripts.studies.small_clip import new_clip, save
from tasks.moment_retrieval.module import MomentRetrieval
from tests.tasks.moment_retrieval.trained import build

SENTENCES = ("a red seven is on the screen", "the two in blue appears", "a dog runs")
SIZE, WIDTH = 48, 64  # pixels; numbers per clip and per token
FACTS = {
    "video_dim": WIDTH + 2,
    "text_dim": WIDTH,
    "clips": 12,
    "tokens": 16,
    "clip_length": 2.0,
    "duration": 24.0,
    "saliency": True,
    "streams": {"clip_features": WIDTH},
    "tef": True,
}


def write_clip(folder: Path, seed: int = 0) -> Path:
    """The folder, filled."""
    save(new_clip(SENTENCES, SIZE, seed), folder)
    return folder


def write_checkpoint(path: Path, **changes) -> Path:
    """A checkpoint of an untrained model on CLIP's rows alone; changes: of its facts."""
    module: MomentRetrieval = build({**FACTS, **changes})
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, path)
    return path
