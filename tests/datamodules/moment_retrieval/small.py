"""A small set of moments in the official files, with features that a test can read itself; the real annotations."""

import json
from pathlib import Path

import numpy as np

from datamodules.moment_retrieval import Moments

ANNOTATIONS = {"train": "train.jsonl", "val": "val.jsonl", "test": "test.jsonl"}
WIDTHS = {"slow": 7, "clip": 5}
TEXT = 6
LABELS = ("saliency", "saliency_pos", "saliency_neg")
KEYWORDS = {
    **{f"{split}_annotations": name for split, name in ANNOTATIONS.items()},
    "video_streams": {name: {"dim": width} for name, width in WIDTHS.items()},
    "text_stream": {"path": "text", "dim": TEXT},
    "batch_size": 4,
    "eval_batch_size": 5,
    "max_clips": 12,
    "max_tokens": 6,
    "max_windows": 2,
}


def make_row(qid: int, vid: str, clips: int, rng: np.random.Generator, *, saliency: bool = True) -> dict:
    """One annotation: windows of whole clips of 2 s, and scores of the clips in them."""
    relevant = sorted(rng.permutation(clips)[: rng.integers(1, clips)].tolist())
    windows: list[list[int]] = []
    for clip in relevant:
        if windows and windows[-1][1] == 2 * clip:
            windows[-1][1] = 2 * clip + 2
        else:
            windows.append([2 * clip, 2 * clip + 2])
    row = {"qid": qid, "query": f"query number {qid}", "duration": 2 * clips, "vid": vid, "relevant_windows": windows}
    if saliency:
        row["relevant_clip_ids"] = relevant
        row["saliency_scores"] = rng.integers(0, 5, (len(relevant), 3)).tolist()
    return row


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_features(folder: Path, rows: list[dict], rng, *, clip_length: float = 2.0, widths=None, text=TEXT) -> None:
    """Writes random features of these rows' videos and queries, if they are not there yet."""
    for stream, width in (widths or WIDTHS).items():
        (folder / stream).mkdir(exist_ok=True)
        for row in rows:
            path = folder / stream / f"{row['vid']}.npz"
            if not path.is_file():
                clips = max(1, int(row["duration"] / clip_length))
                np.savez(path, features=rng.standard_normal((clips, width)).astype(np.float32))
    (folder / "text").mkdir(exist_ok=True)
    for row in rows:
        tokens = int(rng.integers(1, 10))
        np.savez(
            folder / "text" / f"qid{row['qid']}.npz",
            last_hidden_state=rng.standard_normal((tokens, text)).astype(np.float32),
            pooler_output=rng.standard_normal(text).astype(np.float32),
        )


def write_set(folder: Path, *, counts: tuple[int, int, int] = (13, 5, 7), saliency: bool = True) -> Path:
    """Training, validation and test queries, two per video; videos of 1 to 15 clips, the limit being 12."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    qid = 0
    for split, count in zip(ANNOTATIONS, counts, strict=True):
        rows = []
        for i in range(count):
            clips = 2 + (5 * (i // 2)) % 14
            rows.append(make_row(qid, f"{split}{i // 2}_0.0", clips, rng, saliency=saliency))
            qid += 1
        write_lines(folder / ANNOTATIONS[split], rows)
        write_features(folder, rows, rng)
    return folder


def open_set(folder: Path, **changes) -> Moments:
    """The datamodule on `folder`, ready; keywords replace the usual ones."""
    data = Moments(**{**KEYWORDS, "root": str(folder), **changes})
    data.prepare_data()
    data.setup()
    return data


def unit(row: np.ndarray) -> np.ndarray:
    return row / (np.sqrt((row.astype(np.float64) ** 2).sum()) + 1e-5)


def expected_video(folder: Path, vid: str, limit: int = 12, *, tef: bool = True) -> list[list[float]]:
    """The finished features of a video, clip by clip, from the files."""
    parts = [np.load(folder / stream / f"{vid}.npz")["features"] for stream in WIDTHS]
    clips = min(limit, *(len(part) for part in parts))
    return [
        [*(float(x) for part in parts for x in unit(part[i])), *([i / clips, (i + 1) / clips] if tef else [])]
        for i in range(clips)
    ]


def expected_text(folder: Path, qid: int, limit: int = 6) -> list[list[float]]:
    tokens = np.load(folder / "text" / f"qid{qid}.npz")["last_hidden_state"]
    return [unit(token).tolist() for token in tokens[:limit]]


def batches(data, split="train", epoch=0):
    loader = getattr(data, f"{split}_dataloader")()
    if split == "train":
        loader.sampler.set_epoch(epoch)
    return list(loader)


def by_qid(found) -> dict[int, dict]:
    """Every sample of some batches as lists, by qid."""
    return {
        row["qid"]: {
            "video": batch["video"][i][batch["video_keep"][i]].tolist(),
            "text": batch["text"][i][batch["text_keep"][i]].tolist(),
            "spans": batch["spans"][i].tolist(),
            **{key: batch[key][i].tolist() for key in LABELS[1:] if key in batch},
            **({"saliency": batch["saliency"][i][batch["video_keep"][i]].tolist()} if "saliency" in batch else {}),
        }
        for batch in found
        for i, row in enumerate(batch["annotation"])
    }
