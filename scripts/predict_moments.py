"""Finds moments and highlights in a video of your own, from its features and those of the queries.

    python -m scripts.predict_moments --checkpoint logs/.../checkpoints/last.ckpt \\
        --video slowfast.npz --video clip.npz --query q1.npz q2.npz --output out.jsonl --plot moments.png
    python -m scripts.predict_moments --checkpoint ... --video ... --queries-jsonl rows.jsonl --query-folder text/

Features are what the training read, as the extractor wrote them: not normalised, and without the clips' places (tef).
--video: one file per stream, in the order of the training (data.video_streams), (clips, width); --query: one file per
query, (tokens, width). Arrays are .npy files, or "features" and "last_hidden_state" of .npz files. --queries-jsonl
reads rows with qid, query, vid and perhaps relevant_windows (drawn as the true ones); rows of other videos are skipped.

Prints the best windows; --output writes a submission file, which `python -m scripts.evaluate_moments` scores.
From Python, if the project's root is on the path:

    from scripts.predict_moments import load, predict
    predict(load("logs/.../checkpoints/last.ckpt"), {"slowfast_features": a, "clip_features": b}, queries=[c, d])
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.errors import DataError, some
from datamodules.formats.names import file_name
from datamodules.moment_retrieval.arrays import moment_batches
from datamodules.streams import read_array
from scripts.arguments import parser_for
from tasks.common.errors import CheckpointError
from tasks.common.files import read_jsonl, write_jsonl
from tasks.moment_retrieval.module import MomentRetrieval
from tasks.moment_retrieval.moment_figures import moments
from tasks.moment_retrieval.predict import OVERLAP, answers, load

SHOWN = 5  # windows that are printed and drawn


def predict(
    model: MomentRetrieval,
    video: Mapping[str, Any] | Any,
    queries: Sequence[Any],
    *,
    clip_length: float | None = None,
    duration: float | None = None,
    stride: int | None = None,
    windows: int | None = None,
    overlap: float = OVERLAP,
    batch_size: int = 32,
) -> list[dict[str, list]]:
    """For each query {"windows": [[start, end, score], ...] best first, in seconds, "saliency": [one per clip]}.

    video: stream -> (T, width) array; an array alone for a model of one stream. queries: (N, width) arrays.
    windows: at most this many per query; None: as many as the model predicts at once (10 as published).
    clip_length, duration, stride, batch_size: as in datamodules/moment_retrieval/arrays.py; overlap: as in
    tasks/moment_retrieval/excerpts.py. Raises DataError and ValueError as these do.
    """
    batches = moment_batches(
        model.hparams.facts, video, queries,
        clip_length=clip_length, duration=duration, stride=stride, batch_size=batch_size,
    )  # fmt: skip
    return answers(model, batches, clip_length=clip_length, most=windows, overlap=overlap)


def described(arguments: argparse.Namespace, vid: str) -> tuple[list[dict[str, Any]], list[Path]]:
    """A row (qid, query, vid, perhaps relevant_windows) and a feature file for each query."""
    truth = [window(text) for text in arguments.truth]
    if arguments.query:
        if truth and len(arguments.query) > 1:
            raise DataError("--truth is for one --query; give those of several in --queries-jsonl (relevant_windows).")
        known = {"relevant_windows": truth} if truth else {}
        rows = [{"qid": number, "query": file.stem, "vid": vid, **known} for number, file in enumerate(arguments.query)]
        return rows, arguments.query
    if truth:
        raise DataError("--truth is for one --query; --queries-jsonl has its own (relevant_windows).")
    if arguments.query_folder is None:
        raise DataError("--queries-jsonl needs --query-folder, where the features of its queries are.")
    rows = rows_of(arguments.queries_jsonl, vid)
    return rows, [feature_file(arguments.query_folder, f"qid{row['qid']}") for row in rows]


def rows_of(path: Path, vid: str) -> list[dict[str, Any]]:
    """The rows of one video. DataError: none, no qid, a qid twice."""
    every, lines = read_jsonl(path), {}
    for line, row in zip(every.lines, every, strict=True):
        if row.get("vid", vid) != vid:
            continue
        if "qid" not in row:
            raise DataError(f"{path}, line {line}: has no key 'qid'; it has {some(row) or 'none'}.")
        if row["qid"] in lines:
            raise DataError(f"{path}, line {line}: qid {row['qid']} is already that of line {lines[row['qid']]}.")
        lines[row["qid"]] = line
    if not lines:
        others = some(dict.fromkeys(row["vid"] for row in every), limit=3) or "no rows"
        raise DataError(f"{path}: no query of video {vid} (another: --vid); it has {others}.")
    return [{"query": "", **row, "vid": vid} for row in every if row.get("vid", vid) == vid]


def feature_file(folder: Path, stem: str) -> Path:
    """stem.npy if there is one, else stem.npz. DataError: an id that leads to another folder."""
    file_name(stem, f"{folder}, query")
    file = folder / f"{stem}.npy"
    return file if file.is_file() else file.with_suffix(".npz")


def window(text: str) -> list[float]:
    """ "82,150" -> [82.0, 150.0]. DataError: anything else."""
    try:
        start, end = map(float, text.split(","))
        if not 0 <= start <= end:
            raise ValueError
    except ValueError:
        raise DataError(f"--truth {text!r}: expected start,end in seconds, e.g. 82,150.") from None
    return [start, end]


def features(path: Path, key: str, option: str) -> Any:
    """The array of a file. DataError: no such file, or another ending."""
    if not path.is_file():
        raise DataError(f"{option}: there is no file {path}.")
    if path.suffix not in (".npz", ".npy"):
        raise DataError(f"{option}: {path} is neither an .npz nor an .npy file.")
    return read_array(path, key, str(path))


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Predicts, writes what was asked for and returns the rows."""
    vid = arguments.vid or arguments.video[0].stem
    asked, files = described(arguments, vid)
    model = load(arguments.checkpoint)
    try:
        model = model.to(arguments.device)
    except RuntimeError as error:
        raise DataError(f"--device {arguments.device}: cannot be used ({str(error).splitlines()[0]}).") from error
    trained = list(model.hparams.facts.get("streams", {}))
    names = trained if len(trained) == len(arguments.video) else [str(path) for path in arguments.video]
    video = {
        name: features(path, arguments.video_key, "--video") for name, path in zip(names, arguments.video, strict=True)
    }
    queries = [features(path, arguments.query_key, "--query") for path in files]
    clip_length = arguments.clip_length
    if clip_length is None:
        clip_length = model.hparams.facts["clip_length"]
    found = predict(
        model, video, queries,
        clip_length=clip_length, duration=arguments.duration, stride=arguments.stride, windows=arguments.windows,
        batch_size=arguments.batch_size,
    )  # fmt: skip
    rows = [
        {
            "qid": row["qid"],
            "query": row["query"],
            "vid": vid,
            "pred_relevant_windows": answer["windows"],
            "pred_saliency_scores": answer["saliency"],
        }
        for row, answer in zip(asked, found, strict=True)
    ]
    if arguments.output:
        write_jsonl(arguments.output, rows)
    if arguments.plot:
        truth = [{"relevant_windows": row.get("relevant_windows")} for row in asked]
        figure = moments([row | true for row, true in zip(rows, truth, strict=True)], clip_length, SHOWN)
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(arguments.plot, dpi=150)
    return rows


def main(given: list[str] | None = None) -> None:
    """The command line; an error that explains itself is printed without a stack trace."""
    parser = parser_for("predict_moments", __doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="from train.py or scripts/import_checkpoint.py")
    parser.add_argument("--video", type=Path, action="append", required=True, help="features of one stream; repeat it")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--query", type=Path, nargs="+", help="features of the queries")
    source.add_argument("--queries-jsonl", type=Path, help="rows with qid, query, vid; features in --query-folder")
    parser.add_argument("--query-folder", type=Path, help="features of --queries-jsonl, qid<qid>.npz or .npy")
    parser.add_argument("--vid", help="the video's name; default: that of the first --video file")
    parser.add_argument("--truth", nargs="+", default=[], metavar="START,END", help="true windows of the one --query")
    parser.add_argument("--output", type=Path, help="submission file (jsonl)")
    parser.add_argument("--plot", type=Path, help="figure (png, pdf, svg)")
    parser.add_argument("--clip-length", type=float, help="seconds; default: that of the training")
    parser.add_argument("--duration", type=float, help="length of the video in seconds; default: clips x clip length")
    parser.add_argument("--stride", type=int, help="clips between excerpts of a long video; default: half an excerpt")
    parser.add_argument("--windows", type=int, help="windows per query; default: as many as the model predicts")
    parser.add_argument("--batch-size", type=int, default=32, help="queries x excerpts at once")
    parser.add_argument("--video-key", default="features", help="array of --video .npz files")
    parser.add_argument("--query-key", default="last_hidden_state", help="array of query .npz files")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    try:
        rows = run(parser.parse_args(given))
    except (DataError, CheckpointError, ValueError, OSError) as error:
        sys.exit(str(error))
    for row in rows:
        print(f"{row['qid']}: {row['query']}")
        for start, end, score in row["pred_relevant_windows"][:SHOWN]:
            print(f"  {start:8.2f} s to {end:8.2f} s   score {score:.4f}")


if __name__ == "__main__":
    main()
