"""Fake features, annotations and split of described movies (datamodules/fake.py)."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from datamodules.fake import Fake

HOURS, DESCRIBED = 1_207, 264_000  # MAD: hours of 650 movies, training descriptions of MAD-v2, about
MOVIES = {"TRAIN": 12, "EVAL": 2}  # more than data.val_split, which is a number of movies
SEGMENTS, SECONDS = 20, 120


def write(folder: Path, data: Mapping[str, Any]) -> Fake:
    """MAD's layout: HDF5 of float16 features, two csv files and the list of splits."""
    random = np.random.default_rng(0)
    lists = {data["train_split"]: MOVIES["TRAIN"], data["test_split"]: MOVIES["EVAL"]}
    if isinstance(data["val_split"], str):
        lists[data["val_split"]] = MOVIES["EVAL"]
    movies = {name: [f"{100 * i + j:04d}" for j in range(count)] for i, (name, count) in enumerate(lists.items())}
    rows = int(SECONDS * data["fps"])
    for name, width in ((data["video_features"], data["video_dim"]), (data["audio_features"], data["audio_dim"])):
        if name is not None:
            with h5py.File(folder / name, "w") as file:
                for movie in (movie for names in movies.values() for movie in names):
                    file.create_dataset(movie, data=random.standard_normal((rows, width)).astype(np.float16))
    (folder / data["split"]).write_text(json.dumps(movies), encoding="utf-8")
    sources = {data["train_annotations"]: [data["train_split"]], data["eval_annotations"]: [data["test_split"]]}
    extra = data["val_annotations"] or data["eval_annotations"]
    if isinstance(data["val_split"], str):
        sources[extra] = [*sources.get(extra, ()), data["val_split"]]
    for name, splits in sources.items():
        annotations(folder / name, [movie for split in splits for movie in movies[split]])
    if data["subtitles"] is not None:
        annotations(folder / data["subtitles"], [movie for names in movies.values() for movie in names])
    width = data["video_dim"] + (data["audio_dim"] if data["audio_features"] else 0)
    disk = HOURS * 3600 * data["fps"] * width * 2
    words = f"{HOURS:,} hours at {data['fps']:g} rows per second, {width:,} features of 2 bytes"
    return Fake(MOVIES["TRAIN"] * SEGMENTS, DESCRIBED, disk, words)


def annotations(path: Path, movies: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["movie", "start", "end", "text"])
        for movie in movies:
            for number in range(SEGMENTS):
                start = number * SECONDS / SEGMENTS
                writer.writerow([movie, f"{start:.2f}", f"{start + 4:.2f}", "SOMEONE walks to the door and looks out."])
