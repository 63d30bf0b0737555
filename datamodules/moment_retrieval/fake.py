"""Fake annotations and feature files of moments (datamodules/fake.py)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.fake import Fake
from datamodules.moment_retrieval.datamodule import TEXT

VIDEOS, QUERIES = 10_148, {"train": 7_218, "val": 1_550, "test": 1_542}  # of QVHighlights
COUNTS = {"train": 32, "val": 3, "test": 3}


def write(folder: Path, data: Mapping[str, Any]) -> Fake:
    """QVHighlights' layout: an annotation file per split, a folder per stream, a file per video or query."""
    random, clips, per_video, per_query = np.random.default_rng(0), data["max_clips"], 0, 0
    streams = [{"path": name, **stream} for name, stream in data["video_streams"].items() if stream is not None]
    files = {split: data[f"{split}_annotations"] for split in COUNTS}
    for number, (split, count) in enumerate(COUNTS.items()):
        rows = [row_of(f"v{split}{i}_0.0_150.0", 1000 * number + i, clips * data["clip_length"]) for i in range(count)]
        if split == "test" or files[split] not in list(files.values())[number + 1 :]:
            if data.get("saliency") == "labels":
                rows = [labelled(row, clips, data) for row in rows]
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / files[split]).parent.mkdir(parents=True, exist_ok=True)
            (folder / files[split]).write_text(lines, encoding="utf-8")
        for row in rows:
            names = {"vid": row["vid"], "qid": row["qid"]}
            per_video = sum(features(folder, stream, names, clips, random) for stream in streams)
            per_query = features(folder, {**TEXT, **data["text_stream"]}, names, 20, random)
    disk = VIDEOS * per_video + sum(QUERIES.values()) * per_query
    words = f"{VIDEOS:,} videos of {per_video / 1e6:.2f} MB, {sum(QUERIES.values()):,} queries, unpacked"
    return Fake(COUNTS["train"], QUERIES["train"], disk, words)


def row_of(vid: str, qid: int, duration: float) -> dict[str, Any]:
    row = {"qid": qid, "query": "A man speaks to the camera.", "duration": duration, "vid": vid}
    scores = {"relevant_clip_ids": [1, 2], "saliency_scores": [[2, 3, 3], [1, 1, 4]]}
    return {**row, "relevant_windows": [[2, 6]], **scores}


def labelled(row: dict[str, Any], clips: int, data: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a set of highlights alone: no windows, and for every clip the scores of two raters."""
    ends = [data["labels"]["lowest"], data["labels"]["highest"]]
    labels = [[ends[clip % 2], ends[1]] for clip in range(clips)]
    return {key: row[key] for key in ("qid", "query", "duration", "vid")} | {"label": labels, "domain": data["domain"]}


def features(folder: Path, stream: Mapping[str, Any], names: dict, rows: int, random: np.random.Generator) -> int:
    """Writes a stream's file of a video or query; returns its bytes."""
    path = folder / stream["path"] / stream["file"].format(**names)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = random.standard_normal((rows, stream["dim"]), dtype=np.float32)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        np.savez(path, **{stream["key"]: values})
    return path.stat().st_size
