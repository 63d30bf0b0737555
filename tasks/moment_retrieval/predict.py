"""A trained model's windows and saliency for videos of any length, from batches of their excerpts.

    model = load("logs/qvhighlights_lcaam/paper/seed0/<time>/checkpoints/last.ckpt")
    answers(model, batches)[0]     # for the first query: {"windows": [[start, end, score], ...], "saliency": [...]}

scripts/predict_moments.py makes the batches from feature arrays and files, and has the command line.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from configs.guard import reading
from tasks.common.checkpoint_files import read_checkpoint
from tasks.common.errors import CheckpointError
from tasks.moment_retrieval.distinct import distinct, unlike
from tasks.moment_retrieval.excerpts import Excerpt, merged_moments, merged_saliency
from tasks.moment_retrieval.module import MomentRetrieval
from tasks.moment_retrieval.postprocessing import DECIMALS, submission_rows

FACTS = ("video_dim", "text_dim", "clips", "tokens", "clip_length", "duration")  # facts of the data that a model knows
OVERLAP = 0.7  # IoU above which the worse of two windows of a long video is removed, unless another is asked for
IMPORT = "python -m scripts.import_checkpoint qd_detr {} OUT.ckpt makes one of a released QD-DETR checkpoint"


def load(path: str | Path) -> MomentRetrieval:
    """The model of a checkpoint that train.py or scripts/import_checkpoint.py wrote, in eval mode, on the CPU.

    Its `hparams.facts` say what features it takes: "streams" (name -> width) and "tef" come from the run's config.yaml,
    unless they are in the checkpoint; if neither has them, they are missing.
    Raises CheckpointError: no such file, a checkpoint of something else, cut off.
    """
    path = Path(path)
    if not path.is_file():
        found = sorted(str(file) for file in path.rglob("*.ckpt")) if path.is_dir() else []
        hint = f"a folder that holds {', '.join(found)}" if found else "there is no such file"
        raise CheckpointError(f"no checkpoint {path}: {hint}")
    content = read_checkpoint(path, "cpu", hint=f". {IMPORT.format(path)}")
    if not isinstance(content, dict) or not {"state_dict", "hyper_parameters"} <= content.keys():
        raise CheckpointError(f"{path} is not a checkpoint of this project: it has no settings. {IMPORT.format(path)}")
    settings = content["hyper_parameters"]
    facts = settings.get("facts", {})
    if missing := [name for name in FACTS if name not in facts]:
        raise CheckpointError(
            f"{path} is a checkpoint of another task than moment retrieval: its data has no {', '.join(missing)}"
        )
    with reading(f"{path} does not fit MomentRetrieval", CheckpointError):
        model = MomentRetrieval(**settings)  # Lightning's own loading refuses a checkpoint that it did not write
        model.load_state_dict(content["state_dict"])
    model.eval()
    if "streams" not in facts:
        model.hparams.facts = {**model.hparams.facts, **_streams(path, facts["video_dim"])}
    return model


def _streams(path: Path, video_dim: int) -> dict[str, Any]:
    """Streams and tef of the run's config.yaml above the checkpoint; empty if there is no such file."""
    file = path.absolute().parents[1] / "config.yaml" if len(path.absolute().parents) > 1 else None
    data = OmegaConf.load(file).get("data", {}) if file and file.is_file() else {}
    if "video_streams" not in data:
        return {}
    streams = {name: stream["dim"] for name, stream in data["video_streams"].items() if stream is not None}
    tef = bool(data.get("tef", True))
    if sum(streams.values()) + 2 * tef != video_dim:
        raise CheckpointError(
            f"{path} takes {video_dim} features per clip, but {file} has streams {streams} with tef={tef}: "
            "the two do not belong to one run"
        )
    return {"streams": streams, "tef": tef}


@torch.inference_mode()
def answers(
    model: MomentRetrieval,
    batches: Iterable[dict[str, Any]],
    *,
    clip_length: float | None = None,
    most: int | None = None,
    overlap: float | None = None,
) -> list[dict[str, list]]:
    """One dict {"windows", "saliency"} for each query, in the order in which they come.

    windows: [start, end, score], seconds and [0, 1], best first. saliency: a number per clip, any real.
    batches: the data module's video, video_keep, text, text_keep, annotation; an annotation has qid, first (clip),
        duration (of the excerpt) and whole (duration of the video); the excerpts of a query come in their order.
    clip_length: seconds; None is the training data's.
    most: windows per query; None is as many as the model predicts for one excerpt.
    overlap: IoU above which the worse of two windows is removed; None is OVERLAP for several excerpts and 1 for one, so
        that only equal windows go.
    A query with one excerpt gets what evaluation during training gives, without windows that are equal or have no
    length (tasks/moment_retrieval/distinct.py); several excerpts are merged by tasks/moment_retrieval/excerpts.py.
    """
    if most is not None and most < 1:
        raise ValueError(f"windows must be at least 1, got {most}")
    if overlap is not None and not 0 <= overlap <= 1:
        raise ValueError(f"overlap must be an IoU in [0, 1], got {overlap}")
    clip_length = model.hparams.facts["clip_length"] if clip_length is None else clip_length
    found: dict[Any, list[Excerpt]] = {}
    whole: dict[Any, float] = {}
    training = model.training
    model.eval()
    try:
        for batch in batches:
            for row in _rows(model, batch, clip_length):
                excerpt = Excerpt(row.get("first", 0), row["pred_relevant_windows"], row["pred_saliency_scores"])
                found.setdefault(row["qid"], []).append(excerpt)
                whole[row["qid"]] = row.get("whole", row["duration"])
    finally:
        model.train(training)
    return [_answer(found[qid], whole[qid], clip_length, most, overlap, model.hparams.queries) for qid in found]


def _rows(model: MomentRetrieval, batch: dict[str, Any], clip_length: float) -> list[dict[str, Any]]:
    """As MomentRetrieval.rows, for clips of this length, without windows that are equal or have no length."""
    moved = {name: value.to(model.device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    settings = model.hparams
    longest = settings.facts["clips"] * clip_length if settings.longest == "facts" else None
    outputs = model.predict(moved)
    rows = submission_rows(outputs, moved, clip_length, longest, settings.round_windows)
    exact = submission_rows(outputs, moved, clip_length, longest, False) if settings.round_windows else rows
    for row, before in zip(rows, exact, strict=True):
        row["pred_relevant_windows"] = distinct(row["pred_relevant_windows"], before["pred_relevant_windows"])
    return rows


def _answer(
    excerpts: list[Excerpt], whole: float, clip_length: float, most: int | None, overlap: float | None, queries: int
) -> dict[str, list]:
    if len(excerpts) == 1:
        windows = unlike(excerpts[0].windows, 1.0 if overlap is None else overlap)
        return {"windows": windows[:most], "saliency": list(excerpts[0].saliency)}
    moments = merged_moments(excerpts, clip_length, OVERLAP if overlap is None else overlap, most or queries)
    windows = [
        [round(number, DECIMALS) for number in (min(m.start, whole), min(m.end, whole), m.score)] for m in moments
    ]
    return {
        "windows": unlike([window for window in windows if window[1] > window[0]]),
        "saliency": [round(score, DECIMALS) for score in merged_saliency(excerpts).tolist()],
    }
