"""A small mini set: its settings, a function that writes it, and functions that change its files."""

import csv
import hashlib
import json
from pathlib import Path

import h5py

from datamodules.audio_description.mini.generator import Files, MiniSettings, write_mini

SETTINGS = {
    "train_movies": 6,
    "val_movies": 1,
    "test_movies": 2,
    "segments": 20,
    "digits": 4,
    "keys": 3,
    "min_rows": 10,
    "max_rows": 27,
    "min_shot": 2,
    "max_shot": 4,
    "tone_rows": 2,
    "picture_noise": 0.3,
    "tone_noise": 2.0,
    "speech_noise": 0.1,
}
FILES = Files("pictures.h5", "sounds.h5", "train.csv", "eval.csv", "split.json")
KEYWORDS = {
    "video_features": FILES.video,
    "audio_features": FILES.audio,
    "train_annotations": FILES.train,
    "eval_annotations": FILES.eval,
    "split": FILES.split,
    "train_split": "TRAIN",
    "val_split": "VAL",
    "test_split": "EVAL",
    "video_dim": 64,
    "audio_dim": 64,
    "batch_size": 8,
    "eval_batch_size": 16,
}


def generate(root: Path, seed: int = 0, sounds: str = "tones", speech_dir=None, esc10_dir=None, **changes) -> Path:
    """The mini set under `root` with some settings changed."""
    settings = MiniSettings(**{**SETTINGS, **changes})
    folders = {"speech_dir": speech_dir, "esc10_dir": esc10_dir}
    return write_mini(root, settings, FILES, sounds=sounds, seed=seed, **folders)


def read_rows(path: Path) -> list[list[str]]:
    with path.open(encoding="latin-1", newline="") as file:
        return list(csv.reader(file))


def write_rows(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", encoding="latin-1", newline="") as file:
        csv.writer(file).writerows(rows)


def change_row(folder: Path, name: str, **cells: str) -> None:
    """Replace cells of the first row of a csv file."""
    rows = read_rows(folder / name)
    for column, value in cells.items():
        rows[1][rows[0].index(column)] = value
    write_rows(folder / name, rows)


def change_features(folder: Path, name: str, movie: str, change) -> None:
    """Replace a movie's features by change(features); None removes it."""
    with h5py.File(folder / name, "a") as file:
        values = change(file[movie][:])
        del file[movie]
        if values is not None:
            file[movie] = values


def movies(folder: Path, split: str) -> list[str]:
    return json.loads((folder / FILES.split).read_text())[split]


def hashes(folder: Path) -> dict[str, str]:
    """What every file of a folder holds, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
