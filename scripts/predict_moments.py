"""Finds moments and highlights in a video of your own, for sentences of your own.

    python -m scripts.predict_moments --checkpoint logs/.../checkpoints/last.ckpt --clip openai/clip-vit-base-patch32 \\
        --video movie.mp4 --query "a dog runs" --query "somebody laughs" --output answers.srt --plot moments.png
    python -m scripts.predict_moments --checkpoint ... \\
        --video slowfast.npz --video clip.npz --query q1.npz q2.npz --output out.jsonl
    python -m scripts.predict_moments --checkpoint ... --video ... --queries-jsonl rows.jsonl --query-folder text/

--video: one file per stream, in the order of the training (data.video_streams): a video file, whose CLIP rows are read
by --clip, or features (clips, width). --query: a sentence, which --clip reads, or features of one query (tokens,
width). Features are what the training read, as the extractor wrote them: not normalised, and without the clips' places
(tef); .npy files, or "features" and "last_hidden_state" of .npz files. --queries-jsonl reads rows with qid, query, vid
and perhaps relevant_windows (drawn as the true ones); rows of other videos are skipped, and without --query-folder the
sentences are read by --clip.

Prints the best windows. --output writes all of them: .jsonl is a submission file, which `python -m
scripts.evaluate_moments` scores; .json, .csv and .srt (subtitles: every window shows its query) are for other programs.
From Python, in the project's folder:

    from tasks.moment_retrieval.predictor import MomentPredictor
    predictor = MomentPredictor("logs/.../checkpoints/last.ckpt", clip="openai/clip-vit-base-patch32")
    predictor.predict("movie.mp4", ["a dog runs", "somebody laughs"])[0]["windows"]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from datamodules.errors import DataError, some
from datamodules.formats.json_text import is_number
from datamodules.formats.names import file_name
from datamodules.moment_retrieval.annotations import check_asked
from scripts.arguments import parser_for, picture
from scripts.opened import opened
from tasks.common.errors import CheckpointError
from tasks.common.files import check_writable, read_jsonl
from tasks.moment_retrieval.answer_files import check_ending, write_answers
from tasks.moment_retrieval.module import MomentRetrieval
from tasks.moment_retrieval.moment_figures import moments
from tasks.moment_retrieval.predict import load
from tasks.moment_retrieval.predictor import MomentPredictor, is_sentence, predict

__all__ = ["load", "main", "predict"]
SHOWN = 5  # windows that are printed and drawn


def described(arguments: argparse.Namespace, vid: str) -> tuple[list[dict[str, Any]], list[str | Path]]:
    """A row (qid, query, vid, perhaps relevant_windows) for each query, and its sentence or feature file."""
    truth = [window(text) for text in arguments.truth]
    if arguments.query:
        if truth and len(arguments.query) > 1:
            raise DataError("--truth is for one --query; give those of several in --queries-jsonl (relevant_windows).")
        known = {"relevant_windows": truth} if truth else {}
        names = [query if is_sentence(query) else Path(query).stem for query in arguments.query]
        rows = [{"qid": number, "query": name, "vid": vid, **known} for number, name in enumerate(names)]
        return rows, arguments.query
    if truth:
        raise DataError("--truth is for one --query; --queries-jsonl has its own (relevant_windows).")
    if arguments.query_folder is None and arguments.clip is None:
        raise DataError(
            "--queries-jsonl needs --query-folder, where the features of its queries are, or --clip, which reads its "
            "sentences."
        )
    rows = rows_of(arguments.queries_jsonl, vid)
    if arguments.query_folder is None:
        return rows, [row["query"] for row in rows]
    return rows, [feature_file(arguments.query_folder, f"qid{row['qid']}") for row in rows]


def rows_of(path: Path, vid: str) -> list[dict[str, Any]]:
    """The rows of one video. DataError: none, no qid, a qid twice."""
    every, lines = read_jsonl(path), {}
    for line, row in zip(every.lines, every, strict=True):
        if row.get("vid", vid) != vid:
            continue
        if "qid" not in row:
            raise DataError(f"{path}, line {line}: has no key 'qid'; it has {some(row) or 'none'}.")
        check_asked(row, f"{path}, line {line}")
        for one in windows_in(row, f"{path}, line {line}"):
            if not all(map(is_number, one)):
                raise DataError(f"{path}, line {line}: relevant_windows has {one!r}, expected [start, end] in seconds.")
        if row["qid"] in lines:
            raise DataError(f"{path}, line {line}: qid {row['qid']} is already that of line {lines[row['qid']]}.")
        lines[row["qid"]] = line
    if not lines:
        others = some(dict.fromkeys(row["vid"] for row in every), limit=3) or "no rows"
        raise DataError(f"{path}: no query of video {vid} (another: --vid); it has {others}.")
    return [{"query": "", **row, "vid": vid} for row in every if row.get("vid", vid) == vid]


def windows_in(row: dict[str, Any], where: str) -> list[list[Any]]:
    """The relevant_windows of a row, none without them. DataError: no list of pairs."""
    windows = row.get("relevant_windows") or []
    if not isinstance(windows, list) or not all(isinstance(one, list) and len(one) == 2 for one in windows):
        raise DataError(f"{where}: relevant_windows is {windows!r}, expected a list of [start, end] in seconds.")
    return windows


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


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Predicts, writes what was asked for and returns the rows."""
    if arguments.output:
        check_ending(arguments.output)
        check_writable(arguments.output)
    vid = arguments.vid or Path(arguments.video[0]).stem
    asked, sources = described(arguments, vid)
    checkpoint = arguments.checkpoint
    if checkpoint.is_dir():
        _, checkpoint, _ = opened(checkpoint, MomentRetrieval, "moment retrieval")
    predictor = MomentPredictor(checkpoint, arguments.clip, device=arguments.device)
    clip_length = arguments.clip_length
    if clip_length is None:
        clip_length = predictor.model.hparams.facts["clip_length"]
    queries = [predictor.tokens(source, arguments.query_key) for source in sources]
    video, duration = predictor.rows(arguments.video, clip_length, arguments.video_key)
    found = predict(
        predictor.model, video, queries,
        clip_length=clip_length, duration=duration if arguments.duration is None else arguments.duration,
        stride=arguments.stride, windows=arguments.windows, overlap=arguments.overlap, batch_size=arguments.batch_size,
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
        write_answers(arguments.output, rows)
    if arguments.plot:
        truth = [{"relevant_windows": row.get("relevant_windows")} for row in asked]
        figure = moments([row | true for row, true in zip(rows, truth, strict=True)], clip_length, SHOWN)
        arguments.plot.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(arguments.plot, dpi=150)
    return rows


def main(given: list[str] | None = None) -> None:
    """The command line; an error that explains itself is printed without a stack trace."""
    parser = parser_for("predict_moments", __doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a run's folder, or a checkpoint")
    parser.add_argument("--video", action="append", required=True, help="video file, or features; one per stream")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--query", nargs="+", action="extend", help="sentences, or files of their features")
    source.add_argument("--queries-jsonl", type=Path, help="rows with qid, query, vid; features in --query-folder")
    parser.add_argument("--clip", metavar="FOLDER_OR_NAME", help="the CLIP model that reads video files and sentences")
    parser.add_argument("--query-folder", type=Path, help="features of --queries-jsonl, qid<qid>.npz or .npy")
    parser.add_argument("--vid", help="the video's name; default: that of the first --video file")
    parser.add_argument("--truth", nargs="+", default=[], metavar="START,END", help="true windows of the one --query")
    parser.add_argument("--output", type=Path, help="all answers: .jsonl (submission), .json, .csv or .srt (subtitles)")
    parser.add_argument("--plot", type=picture, help="figure (png, pdf, svg)")
    parser.add_argument("--clip-length", type=float, help="seconds; default: that of the training")
    parser.add_argument(
        "--duration", type=float, help="length of the video, s; default: the video file's, or clips x clip length"
    )
    parser.add_argument("--stride", type=int, help="clips between excerpts of a long video; default: half an excerpt")
    parser.add_argument("--windows", type=int, help="windows per query; default: as many as the model predicts")
    parser.add_argument(
        "--overlap", type=float, metavar="IOU", help="removes the worse of two windows that overlap more, 0 to 1; "
        "default: 0.7 if the video is longer than the training's, else equal windows alone"
    )  # fmt: skip
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
