"""Scores anybody's audio descriptions from a table of sentences.

    python -m tasks.audio_description.evaluate --predictions P.csv
    python -m tasks.audio_description.evaluate --predictions logs/.../predictions/test.jsonl --per-movie --json S.json
    python -m tasks.audio_description.evaluate --predictions P.csv --scorers rougeL BERTScore=roberta-large

Columns of P.csv, or keys of the lines of a .jsonl file: movie (or vid), start (or start_time), end (or end_time),
text_gt (or reference, text, sentence), text_gen (or generated, prediction); others are not read. start and end, in
seconds, may be absent: rows of a movie are then taken to be in time order, as CRITIC's files are (vid, text_gt,
text_gen).

Everything is in percent (CIDEr's own range of 0 to 10 becomes 0 to 1000). An empty generation is an answer, and a wrong
one. docs/audio_description_scores.md says what each name means.

Exit status: 0, or 2 with a message on standard error where a file cannot be scored.
"""

import argparse
import csv
import io
import math
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tasks.audio_description.metrics import SHOWN, TIES, neighbour_recalls
from tasks.audio_description.scorers import Scorer, build_scorer
from tasks.common.captions import METRICS, score_captions
from tasks.common.files import write_json, write_text
from tasks.moment_retrieval.submission import read_jsonl

ALIASES = {
    "movie": ("movie", "vid"),
    "start": ("start", "start_time"),
    "end": ("end", "end_time"),
    "reference": ("text_gt", "reference", "text", "sentence"),
    "generated": ("text_gen", "generated", "prediction"),
}
MISSING = ("nan", "NaN", "<NA>", "None", "null", "NULL")  # what tables write for a cell without a value
REPLACED = "\ufffd"  # stands where a byte was not UTF-8


class PredictionsError(ValueError):
    """Predictions that cannot be scored. The message names the file, the line and the movie."""


class Predictions(NamedTuple):
    """rows: dicts of movie, start, end, reference, generated, ann_id, in (movie, start) order."""

    rows: list[dict[str, Any]]
    notes: list[str]  # what the reader of the scores should know
    columns: dict[str, str]  # what was read from where


# -- reading ----------------------------------------------------------------------------------------------------------


def read_predictions(path: str | Path) -> Predictions:
    """Reads and checks a csv file, or JSON lines where the name ends in .jsonl.

    Movies stay text ("0010"). Bytes that are not UTF-8 become U+FFFD. Raises PredictionsError: unreadable or empty
    file, no such column, an empty reference or movie, a time that is no number or in some rows only, a row twice.
    """
    path = Path(path)
    if path.suffix == ".jsonl":
        cells = read_jsonl(path)
        lines = cells.lines
    else:
        cells, lines = csv_cells(path)
    if not cells:
        raise PredictionsError(f"{path}: has no rows")
    columns = find_columns(path, list(dict.fromkeys(name for row in cells for name in row)))
    read = Reader(path, cells, lines, columns)
    notes: list[str] = []
    movies = read.movies = read.text("movie", notes, least="a movie")
    references = read.text("reference", notes, least="a reference; a row without one cannot be scored: take it out")
    generated = read.text("generated", notes, least=None)
    starts, ends = read.seconds("start"), read.seconds("end")
    named = all(isinstance(row.get("ann_id"), str) for row in cells)
    rows = []
    for i, row in enumerate(cells):
        start = starts[i] if starts else float(i)
        times = {"start": start, "end": ends[i] if ends else start}
        texts = {"reference": references[i], "generated": generated[i]}
        rows.append({"ann_id": row["ann_id"] if named else i, "movie": movies[i]} | times | texts)
    if starts:
        read.refuse_repeats(rows, notes)
    else:
        notes.append(f"{path}: no start: the rows of a movie are taken to be in time order")
    # the order of a run's own test, on which the PTB tokenizer depends
    return Predictions(sorted(rows, key=lambda row: (row["movie"], row["start"])), notes, columns)


def csv_cells(path: Path) -> tuple[list[dict[str, str]], list[int]]:
    """Rows, and the line on which each begins."""
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise PredictionsError(f"{path}: not a readable file ({error.strerror})") from error
    if "\0" in text:
        raise PredictionsError(f"{path}: not a csv file, or not in UTF-8: it has zero bytes")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, lines, header, begins = [], [], None, 1
    try:
        for cells in reader:
            begins, line = reader.line_num + 1, begins
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                if twice := [name for i, name in enumerate(header) if name and name in header[:i]]:
                    raise PredictionsError(f"{path}, line {line}: column {twice[0]!r} is there twice")
                continue
            if len(cells) != len(header):
                raise PredictionsError(
                    f"{path}, line {line}: {len(cells)} cells, but the header has {len(header)}; a sentence with a "
                    'comma must stand in double quotes, a quote in it doubled ("")'
                )
            rows.append(dict(zip(header, cells, strict=True)))
            lines.append(line)
    except csv.Error as error:
        raise PredictionsError(f"{path}, line {begins} or after: not csv ({error})") from error
    return rows, lines


def find_columns(path: Path, present: Sequence[str]) -> dict[str, str]:
    """The column of each field; of several aliases the first in ALIASES."""
    columns = {}
    for field, aliases in ALIASES.items():
        found = [alias for alias in aliases if alias in present]
        if found:
            columns[field] = found[0]
        elif field not in ("start", "end"):
            near = get_close_matches(aliases[0], present, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise PredictionsError(
                f"{path}: no column {' or '.join(aliases)}; its columns are {', '.join(map(repr, present))}{hint}"
            )
    return columns


class Reader:
    """Columns of the table, and how messages call its rows."""

    def __init__(self, path: Path, cells: Sequence[Mapping], lines: Sequence[int], columns: Mapping[str, str]):
        self.path, self.cells, self.lines, self.columns = path, cells, lines, columns
        self.movies: list[str] = []

    def rows(self, which: Sequence[int]) -> str:
        """ "lines 3 (movie 0010), 4 (movie 0010) and 5 more" """
        named = [f"{self.lines[i]}" + (f" (movie {self.movies[i]})" if self.movies else "") for i in which[:SHOWN]]
        rest = f" and {len(which) - SHOWN} more" if len(which) > SHOWN else ""
        return f"line{'s' * (len(which) > 1)} {', '.join(named)}{rest}"

    def column(self, field: str) -> list[Any]:
        """Its cells, None where there is none. PredictionsError: a line of JSON without the key."""
        name = self.columns[field]
        absent = [i for i, row in enumerate(self.cells) if name not in row]
        if absent:
            raise PredictionsError(f"{self.path}: no key {name!r}, which other lines have, in {self.rows(absent)}")
        cells = [row[name] for row in self.cells]
        return [None if cell in MISSING or cell != cell else cell for cell in cells]

    def text(self, field: str, notes: list[str], least: str | None) -> list[str]:
        """Stripped; least: what must be there, None where nothing must."""
        cells, name = self.column(field), self.columns[field]
        if field == "movie":
            cells = [str(cell) if isinstance(cell, int) else cell for cell in cells]  # JSON
        if wrong := [i for i, cell in enumerate(cells) if not isinstance(cell, str | None)]:
            raise PredictionsError(f"{self.path}: {name} must be text, got {cells[wrong[0]]!r} in {self.rows(wrong)}")
        values = [(cell or "").strip() for cell in cells]
        empty = [i for i, value in enumerate(values) if not value]
        if empty and least:
            raise PredictionsError(f"{self.path}: {name} is empty or nan and must be {least}: {self.rows(empty)}")
        if empty:
            notes.append(f"{self.path}: {name} is empty or nan: an empty answer, in {self.rows(empty)}")
        if damaged := [i for i, value in enumerate(values) if REPLACED in value]:
            notes.append(f"{self.path}: {name} has bytes that are not UTF-8 (now U+FFFD) in {self.rows(damaged)}")
        return values

    def seconds(self, field: str) -> list[float]:
        """Numbers; none at all where the column is absent or empty."""
        if field not in self.columns:
            return []
        cells, name = self.column(field), self.columns[field]
        empty = [i for i, cell in enumerate(cells) if cell is None or not str(cell).strip()]
        if len(empty) == len(cells):
            return []
        if empty:
            raise PredictionsError(f"{self.path}: {name} is empty, and is not in other rows: {self.rows(empty)}")
        values = pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce").astype(float).tolist()
        if wrong := [i for i, value in enumerate(values) if not math.isfinite(value)]:
            raise PredictionsError(
                f"{self.path}: {name} must be a number of seconds, got {cells[wrong[0]]!r} in {self.rows(wrong)}"
            )
        return values

    def refuse_repeats(self, rows: Sequence[Mapping[str, Any]], notes: list[str]) -> None:
        """A movie's start with the same reference again is a row given twice; with another one it may be meant."""
        seen: set[tuple] = set()
        twice, shared = [], []
        for i, row in enumerate(rows):
            place = (row["movie"], row["start"])
            if (*place, row["reference"]) in seen:
                twice.append(i)
            elif place in seen:
                shared.append(i)
            seen |= {place, (*place, row["reference"])}
        if twice:
            raise PredictionsError(
                f"{self.path}: the same movie, start and reference as an earlier row: {self.rows(twice)}; every "
                "sentence is scored once"
            )
        if shared:
            notes.append(f"{self.path}: the same movie and start as an earlier row in {self.rows(shared)}; all count")


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


# -- the command line -------------------------------------------------------------------------------------------------


def tables(scores: Mapping[str, Mapping]) -> list[Table]:
    """The total, and where asked for the movies."""
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
    """A row a movie, where there are any, and a last one "total"; an empty cell is a score that is not defined."""
    rows = [*scores.get("movies", {}).items(), ("total", scores["total"])]
    return pd.DataFrame([own for _, own in rows], index=[name for name, _ in rows]).to_csv(index_label="movie")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.audio_description.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--predictions", type=Path, required=True, help="csv, or JSON lines (.jsonl)")
    add("--scorers", nargs="*", default=["rougeL", "tokenF1"], help="of recalls: rougeL, tokenF1, BERTScore=PATH-or-ID")
    add("--metrics", nargs="*", default=list(METRICS), help=f"of captions (all: {' '.join(METRICS)})")
    add("--per-movie", action="store_true", help="also score every movie by itself")
    add("--json", "--output", type=Path, metavar="OUT", help="write the scores and how they were made here")
    add("--csv", type=Path, metavar="OUT", help="write the scores here as a table")
    add("--k", type=int, nargs="+", default=[1, 5], help="a hit is a reference among the k best (1 5)")
    add("--n", type=int, default=16, help="sentences of a window (16)")
    add("--ties", default="expected", choices=TIES, help="what equal scores count as (expected; AutoAD: topk)")
    add("--layer", type=int, default=17, help="of BERTScore's encoder (17, for roberta-large)")
    add("--device", default="cpu", help="of BERTScore's encoder: cpu, cuda, ...")
    options = parser.parse_args(arguments)
    try:
        for name in ("json", "csv"):
            out = getattr(options, name)
            if out is not None and out.is_dir():
                raise ValueError(f"--{name} must be a file, {out} is a folder")
            if out is not None and out.resolve() == options.predictions.resolve():
                raise ValueError(f"--{name} would overwrite the predictions, {out}")
        predictions = read_predictions(options.predictions)
        for note in predictions.notes:
            print(note, file=sys.stderr)
        scorers = [build_scorer(name, layer=options.layer, device=options.device) for name in options.scorers]
        scores = evaluate(
            predictions.rows, scorers=scorers, metrics=options.metrics,
            k=options.k, n=options.n, ties=options.ties, per_movie=options.per_movie,
        )  # fmt: skip
        if options.json is not None:
            layer = options.layer if any(name.startswith("BERTScore") for name in options.scorers) else None
            about = {"predictions": str(options.predictions), "columns": predictions.columns}
            about |= {"notes": predictions.notes, "scorers": options.scorers, "layer": layer, "ties": options.ties}
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
