"""Scores anybody's audio descriptions from a table of sentences.

    python -m scripts.evaluate_descriptions --predictions P.csv
    python -m scripts.evaluate_descriptions --predictions logs/.../predictions/test.jsonl --per-movie --json S.json
    python -m scripts.evaluate_descriptions --predictions P.csv --scorers rougeL BERTScore=roberta-large

P.csv may be separated by commas, semicolons, tabs or bars; .jsonl has JSON lines, .json a list of objects. Columns, or
keys: movie (or vid), start (or start_time), end (or end_time), text_gt (or reference, text, sentence), text_gen (or
generated, prediction); others are not read. start and end, in seconds, may be absent: rows of a movie are then taken to
be in time order, as CRITIC's files are (vid, text_gt, text_gen).

Everything is in percent (CIDEr's own range of 0 to 10 becomes 0 to 1000). An empty generation is an answer, and a wrong
one. docs/audio_description_scores.md says what each name means.

Exit status: 0, or 2 with a message on standard error if a file cannot be scored.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from datamodules.errors import some
from datamodules.formats.decoding import UTF8, check_encoding
from scripts.arguments import parser_for
from tasks.audio_description.metrics import TIES, neighbour_recalls
from tasks.audio_description.predictions import read_predictions
from tasks.audio_description.scorers import Scorer, build_scorer
from tasks.common.captions import METRICS, cider_remarks, score_captions
from tasks.common.files import write_json, write_text

# -- scoring ----------------------------------------------------------------------------------------------------------


def evaluate(
    rows: Sequence[Mapping[str, Any]],
    *,
    scorers: Sequence[Scorer],
    metrics: Sequence[str] = METRICS,
    k: Sequence[int] = (1, 5),
    n: int = 16,
    ties: str = "expected",
    per_movie: bool = False,
) -> dict[str, dict]:
    """{"total": {name: percent}, "movies": {movie: {name: percent}}}; movies only with per_movie.

    rows: dicts of movie, start, generated, reference. Raises ValueError as score_captions and neighbour_recalls do.
    """
    total = caption_scores(rows, metrics)
    recalls = neighbour_recalls(rows, k, n, scorers=scorers, ties=ties)
    scores: dict[str, dict] = {"total": total | recalls.total()}
    if per_movie:
        movies: dict[str, list] = {}
        for row in rows:
            movies.setdefault(row["movie"], []).append(row)
        of = recalls.per_movie()
        scores["movies"] = {name: caption_scores(own, metrics) | of.get(name, {}) for name, own in movies.items()}
    return scores


def caption_scores(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> dict[str, float]:
    """The number of sentences, the share of exact ones in percent, and score_captions."""
    exact = 100 * sum(row["generated"] == row["reference"] for row in rows) / len(rows)
    scores = {"sentences": len(rows), "exact": exact}
    if metrics:
        generated = {str(i): row["generated"] for i, row in enumerate(rows)}
        scores |= score_captions(generated, {str(i): [row["reference"]] for i, row in enumerate(rows)}, metrics)
    return scores


def remarks(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], per_movie: bool) -> list[str]:
    """Why CIDEr is 0 if one sentence alone is scored: a table of one row or, with per_movie, a movie."""
    if "cider" not in metrics:
        return []
    if len(rows) == 1:
        return [*cider_remarks([rows[0]["movie"]])]
    counts = Counter(row["movie"] for row in rows)
    alone = [movie for movie, count in counts.items() if count == 1] if per_movie else []
    return [f"{said}; so it is of {len(alone)} movies: {some(alone)}" for said in cider_remarks(alone[:1])]


# -- the command line -------------------------------------------------------------------------------------------------


def tables(scores: Mapping[str, Mapping]) -> list[Table]:
    """One table of the total, and one of the movies if they were asked for."""
    total = Table("metric", title="All movies (%)", title_justify="left")
    total.add_column("total", justify="right")
    for name, value in scores["total"].items():
        total.add_row(Text(name), figure(name, value))  # not markup: R@5/16[rougeL] has brackets
    if "movies" not in scores:
        return [total]
    names = list(dict.fromkeys(name for own in scores["movies"].values() for name in own))
    movies = Table("movie", title="By movie (%)", title_justify="left")
    for name in names:
        movies.add_column(Text(name.replace("[", "\n[")), justify="right", no_wrap=False)
    for movie, own in scores["movies"].items():
        movies.add_row(Text(movie), *(figure(name, own.get(name)) for name in names))
    return [total, movies]


def figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if name == "sentences" or name.endswith("skipped") else f"{value:.2f}"


def as_csv(scores: Mapping[str, Mapping]) -> str:
    """One row per movie, if there are any, and a last one "total"; an empty cell is a score that is not defined."""
    rows = [*scores.get("movies", {}).items(), ("total", scores["total"])]
    return pd.DataFrame([own for _, own in rows], index=[name for name, _ in rows]).to_csv(index_label="movie")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = parser_for("evaluate_descriptions", __doc__)
    add = parser.add_argument
    add("--predictions", type=Path, required=True, help="csv, JSON lines (.jsonl), or a JSON list (.json)")
    add("--encoding", default=UTF8, help="of a file that has no mark (BOM) of its own: utf-8, cp1252, ...")
    add("--scorers", nargs="*", default=["rougeL", "tokenF1"], help="of recalls: rougeL, tokenF1, BERTScore=PATH-or-ID")
    add("--metrics", nargs="*", default=list(METRICS), help=f"of captions (all: {' '.join(METRICS)})")
    add("--per-movie", action="store_true", help="also score every movie by itself")
    add("--json", "--output", type=Path, metavar="OUT", help="write the scores and how they were made here")
    add("--csv", type=Path, metavar="OUT", help="write the scores here as a table")
    add("--k", type=int, nargs="+", default=[1, 5], help="a hit is a reference among the k best (1 5)")
    add("--n", type=int, default=16, help="sentences of a window (16)")
    add("--ties", default="expected", choices=TIES, help="what equal scores count as (expected; AutoAD: topk)")
    add("--layer", type=int, default=17, help="layer of BERTScore's encoder (17, for roberta-large)")
    add("--device", default="cpu", help="device of BERTScore's encoder: cpu, cuda, ...")
    options = parser.parse_args(arguments)
    try:
        for name in ("json", "csv"):
            out = getattr(options, name)
            if out is not None and out.is_dir():
                raise ValueError(f"--{name} must be a file, {out} is a folder")
            if out is not None and out.resolve() == options.predictions.resolve():
                raise ValueError(f"--{name} would overwrite the predictions, {out}")
        if options.json is not None and options.csv is not None and options.json.resolve() == options.csv.resolve():
            raise ValueError(f"--json and --csv are one file, {options.csv}")
        check_encoding(options.encoding, "--encoding")
        predictions = read_predictions(options.predictions, options.encoding)
        notes = predictions.notes + remarks(predictions.rows, options.metrics, options.per_movie)
        for note in notes:
            print(note, file=sys.stderr)
        scorers = [build_scorer(name, layer=options.layer, device=options.device) for name in options.scorers]
        scores = evaluate(
            predictions.rows, scorers=scorers, metrics=options.metrics,
            k=options.k, n=options.n, ties=options.ties, per_movie=options.per_movie,
        )  # fmt: skip
        if options.json is not None:
            layer = options.layer if any(name.startswith("BERTScore") for name in options.scorers) else None
            about = {"predictions": str(options.predictions), "columns": predictions.columns}
            about |= {"notes": notes, "scorers": options.scorers, "layer": layer, "ties": options.ties}
            write_json(options.json, about | scores)
        if options.csv is not None:
            write_text(options.csv, as_csv(scores))
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    console = Console()
    console = console if console.is_terminal else Console(width=200)
    for table in tables(scores):
        console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
