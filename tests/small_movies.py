"""Two or three short movie files with picture, sound, dialogue and descriptions, a small CLIP, and features of them."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl

from datamodules.audio_description import Descriptions
from datamodules.audio_description.mini.sounds import RATE
from scripts.prepare_movies import main as prepare
from scripts.studies.described_movies import PICTURES, Sizes, write_file, write_movies
from tasks.audio_description.module import AudioDescription
from tests.tasks.audio_description.test_module import build
from tests.tasks.moment_retrieval.small_clip import WIDTH, write_clip

SIZES = Sizes(train=1, val=1, test=1, rows=100)  # 20 s: three chunks of rows, and a part of one
SOUND = ("--sound-rate", "8000", "--sound-frames", "2", "--sound-bands", "8")
DIMS = {"video_dim": WIDTH, "audio_dim": 16}
KEYWORDS = {
    "video_features": "video_features",
    "audio_features": "audio_features",
    "train_annotations": "descriptions.csv",
    "eval_annotations": "descriptions.csv",
    "split": "split.json",
    "train_split": "TRAIN",
    "val_split": "VAL",
    "test_split": "EVAL",
    "batch_size": 2,
    "eval_batch_size": 3,
    **DIMS,
}


def write_set(folder: Path) -> Path:
    """folder/{movies,subtitles,descriptions,clip,data}; the test movie is test003."""
    names = write_movies(folder, SIZES, seed=1)
    write_clip(folder / "clip")
    prepare(
        [
            *map(str, (folder / "movies", folder / "data", "--descriptions", folder / "descriptions")),
            *map(str, ("--subtitles", folder / "subtitles", "--clip", folder / "clip")),
            *SOUND, "--val", *names["val"], "--test", *names["test"],
        ]
    )  # fmt: skip
    return folder


def open_set(folder: Path, **changes) -> Descriptions:
    data = Descriptions(**{**KEYWORDS, "root": str(folder / "data"), **changes})
    data.prepare_data()
    data.setup()
    return data


def write_checkpoint(path: Path, facts: dict, **changes) -> Path:
    """A checkpoint of an untrained model, whose gates are open: its sentences depend on what it reads."""
    module: AudioDescription = build(facts=facts, decoding={"max_new_tokens": 12}, **changes)
    trainer = pl.Trainer(logger=False, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return path


def write_plain(path: Path, seconds: float, sound: np.ndarray | None) -> Path:
    """A movie of grey pictures and a sound (n,) at 8 kHz."""
    count = round(seconds * PICTURES)
    shades = np.linspace(0, 255, count).astype(np.uint8)
    write_file(path, np.zeros((count, 48, 48, 3), np.uint8) + shades[:, None, None, None], sound, RATE)
    return path
