"""Small MAD sets to check: one without a fault, and one fault of each kind to plant in it."""

import json
from pathlib import Path

import h5py
import numpy as np

from datamodules.audio_description import Descriptions
from scripts.checks import mad_features, mad_rows, mad_splits, madv2
from scripts.checks.madv2 import check_madv2
from scripts.checks.report import Report
from tests.datamodules.audio_description.small import (
    FILES,
    KEYWORDS,
    change_features,
    change_row,
    generate,
    movies,
    read_rows,
    write_rows,
)


def write_faultless(root: Path) -> Path:
    """A small set in the files of MAD without its traps: rows repaired or left out, sorted; every film has a title."""
    folder = generate(root)
    for name in (FILES.train, FILES.eval):
        head, *rows = read_rows(folder / name)
        rows = [[m, f"{max(float(s), 0):.3f}", e, text.replace("\x80", "")] for m, s, e, text in rows]
        rows = [row for row in rows if row[3].strip() and float(row[2]) > float(row[1])]
        write_rows(folder / name, [head, *sorted(rows, key=lambda row: (row[0], float(row[1])))])
    every = [movie for split in ("TRAIN", "VAL", "EVAL") for movie in movies(folder, split)]
    (folder / "mad2imdb.json").write_text(json.dumps({movie: f"tt{movie}" for movie in every}))
    return folder


def check(folder: Path, deep=None, **changes) -> Report:
    return check_madv2(Descriptions(**{**KEYWORDS, "root": str(folder), **changes}), deep)


def found(report: Report, *, note: bool = False) -> dict[str, dict[str, list[str]]]:
    """kind -> file -> names"""
    return {kind: section.names for (kind, noted), section in report.sections.items() if noted == note}


def first(folder, split):
    return movies(folder, split)[0]


def last_row(folder, name):
    return read_rows(folder / name)[-1]


def add_rows(folder, name, *rows):
    write_rows(folder / name, [*read_rows(folder / name), *rows])


def change_lists(folder, change):
    lists = json.loads((folder / FILES.split).read_text())
    change(lists)
    (folder / FILES.split).write_text(json.dumps(lists))


def cut(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])


def same_title(folder, movie, other):
    titles = json.loads((folder / "mad2imdb.json").read_text())
    (folder / "mad2imdb.json").write_text(json.dumps({**titles, movie: titles[other]}))


def with_column(folder, name, column, values):
    head, *rows = read_rows(folder / name)
    write_rows(
        folder / name, [[*head, column], *([*row, value] for row, value in zip(rows, values(rows), strict=True))]
    )


def durations(folder, rows):
    """What the column movie_duration of these rows would be."""
    with h5py.File(folder / FILES.video) as file:
        return [str(len(file[row[0]]) / 5) for row in rows]


def to_group(folder, name, movie):
    with h5py.File(folder / name, "a") as file:
        del file[movie]
        file.create_group(movie)


def without_zeros(folder):
    rows = read_rows(folder / FILES.train)
    write_rows(folder / FILES.train, [[row[0].lstrip("0"), *row[1:]] for row in rows])


# name -> (what to damage, the kind that is found, at which place, how the first one is named)
FAULTS = {
    "missing file": (lambda f: (f / FILES.audio).unlink(), madv2.NO_FILE, "", FILES.audio),
    "movie missing in the video file": (
        lambda f: change_features(f, FILES.video, first(f, "TRAIN"), lambda v: None),
        mad_features.MISSING, FILES.video, "0017",
    ),
    "movie missing in the audio file": (
        lambda f: change_features(f, FILES.audio, first(f, "EVAL"), lambda v: None),
        mad_features.MISSING, FILES.audio, "0136",
    ),
    "another width": (
        lambda f: change_features(f, FILES.video, first(f, "TRAIN"), lambda v: v[:, :63]),
        mad_features.WIDTH, FILES.video, r"0017 \(\d+, 63\), expected \(rows, 64\)",
    ),
    "a vector": (
        lambda f: change_features(f, FILES.audio, first(f, "TRAIN"), lambda v: v[0]),
        mad_features.WIDTH, FILES.audio, r"0017 \(64,\)",
    ),
    "a group": (
        lambda f: to_group(f, FILES.audio, first(f, "TRAIN")),
        mad_features.UNREADABLE, FILES.audio, r"movie 0017 is a group with nothing in it",
    ),
    "texts for features": (
        lambda f: change_features(f, FILES.audio, first(f, "TRAIN"), lambda v: np.full(v.shape, b"x")),
        mad_features.UNREADABLE, FILES.audio, r"movie 0017 has values of type \|S1, expected numbers",
    ),
    "tracks more than a second apart": (
        lambda f: change_features(f, FILES.audio, first(f, "EVAL"), lambda v: np.concatenate([v, v[:6]])),
        mad_features.TRACKS, "video and audio", r"0136 \((\d+) video rows, \d+ audio rows\)",
    ),
    "truncated h5": (lambda f: cut(f, FILES.video), mad_features.UNREADABLE, FILES.video, "probably truncated"),
    "no h5": (lambda f: (f / FILES.audio).write_text("no"), mad_features.UNREADABLE, FILES.audio, "cannot be opened"),
    "begins after its movie": (
        lambda f: add_rows(f, FILES.train, [last_row(f, FILES.train)[0], "9000", "9001", "Late."]),
        mad_rows.AFTER, FILES.train, r"row 120 \(0102, 9000 to 9001 of \d+\.\d s\)",
    ),
    "ends after its movie": (
        lambda f: change_row(f, FILES.eval, end="9000"), mad_rows.LATE, FILES.eval, r"row 0 \(\d+, [\d.]+ to 9000 of",
    ),
    "negative start": (
        lambda f: change_row(f, FILES.train, start="-3.5"), mad_rows.NEGATIVE, FILES.train, r"row 0 \(0017, -3\.5 s\)",
    ),
    "end before start": (
        lambda f: change_row(f, FILES.eval, start="4", end="3"), mad_rows.REVERSED, FILES.eval, r"row 0 \(.*4 to 3\)",
    ),
    "end at start": (
        lambda f: change_row(f, FILES.eval, start="0", end="0"), mad_rows.REVERSED, FILES.eval, r"row 0 \(.*0 to 0\)",
    ),
    "time no number": (
        lambda f: change_row(f, FILES.train, start="soon"), mad_rows.NUMBER, FILES.train, r"row 0 \(0017, soon to",
    ),
    "time infinite": (lambda f: change_row(f, FILES.eval, end="inf"), mad_rows.NUMBER, FILES.eval, r"row 0 .* inf"),
    "row twice": (
        lambda f: add_rows(f, FILES.train, last_row(f, FILES.train)), mad_rows.REPEATED, FILES.train, "row 120 ",
    ),
    "id twice": (
        lambda f: with_column(f, FILES.train, "ann_id", lambda rows: ["a", "a", *map(str, range(2, len(rows)))]),
        mad_rows.TWICE, FILES.train, r"row 1 \(0017, a\)",
    ),
    "byte 0x80": (
        lambda f: change_row(f, FILES.train, text="Key \x80"), mad_rows.BYTES, FILES.train, r"row 0 \(0017\)",
    ),
    "not sorted": (
        lambda f: write_rows(f / FILES.eval, [(r := read_rows(f / FILES.eval))[0], r[2], r[1], *r[3:]]),
        mad_rows.UNSORTED, FILES.eval, r"row 1 \(\d+, 0\.\d+ s\)",
    ),
    "empty sentence": (lambda f: change_row(f, FILES.train, text="  "), mad_rows.EMPTY, FILES.train, r"row 0 \(0017\)"),
    "no movie id": (lambda f: add_rows(f, FILES.eval, ["", "1", "2", "x"]), mad_rows.NO_MOVIE, FILES.eval, "no movie"),
    "no such column": (
        lambda f: write_rows(f / FILES.train, [["movie", "begin", "end", "text"], *read_rows(f / FILES.train)[1:]]),
        mad_features.UNREADABLE, FILES.train, "no column start or start_time; its columns are movie, begin, end, text",
    ),
    "no csv": (lambda f: (f / FILES.eval).write_text(""), mad_features.UNREADABLE, FILES.eval, "not a readable csv"),
    "header only": (
        lambda f: write_rows(f / FILES.eval, read_rows(f / FILES.eval)[:1]),
        mad_features.UNREADABLE, FILES.eval, "no rows",
    ),
    "duration unlike the features": (
        lambda f: with_column(f, FILES.eval, "movie_duration", lambda rows: ["9999"] * len(rows)),
        mad_rows.LENGTH, FILES.eval, r"0119 \(9999 s, features \d+\.\d s\)",
    ),
    "duration no number": (
        lambda f: with_column(f, FILES.eval, "duration", lambda rows: ["long", *durations(f, rows)[1:]]),
        mad_rows.NO_DURATION, FILES.eval, r"row 0 \(\d+, long\)",
    ),
    "evaluation movie in the training list": (
        lambda f: change_lists(f, lambda lists: lists["TRAIN"].append(lists["EVAL"][1])),
        mad_splits.IN_TRAINING, FILES.split, "0153",
    ),
    "unknown split name": (
        lambda f: change_lists(f, lambda lists: lists.update(EVALS=lists.pop("EVAL"))),
        mad_splits.UNKNOWN, FILES.split, r"data\.test_split=EVAL \(it has TRAIN, VAL, EVALS\. Did you mean 'EVALS'\?\)",
    ),
    "movie in training and validation": (
        lambda f: change_lists(f, lambda lists: lists["VAL"].append(lists["TRAIN"][1])),
        mad_splits.IN_BOTH, FILES.split, "0034",
    ),
    "movie listed twice": (
        lambda f: change_lists(f, lambda lists: lists["TRAIN"].append(lists["TRAIN"][1])),
        mad_splits.LISTED_TWICE, FILES.split, "0034 in TRAIN",
    ),
    "described movie in no list": (
        lambda f: change_lists(f, lambda lists: lists["TRAIN"].pop(0)), mad_splits.UNLISTED, FILES.train, "0017",
    ),
    "listed movie without description": (
        lambda f: change_lists(f, lambda lists: lists["EVAL"].append("4711")),
        mad_splits.UNDESCRIBED, FILES.eval, r"4711 \(test\)",
    ),
    "leading zeros lost": (
        without_zeros, mad_splits.ZEROS, FILES.train, r"102 \(a list has 0102\)",
    ),
    "split file no json": (lambda f: (f / FILES.split).write_text("{"), mad_features.UNREADABLE, "", "not a JSON"),
    "film in training and validation": (
        lambda f: same_title(f, first(f, "TRAIN"), first(f, "VAL")),
        mad_splits.TITLE, "mad2imdb.json", r"tt0119 \(0017 and 0119\), val",
    ),
    "film in training and test": (
        lambda f: same_title(f, first(f, "EVAL"), first(f, "TRAIN")),
        mad_splits.TITLE, "mad2imdb.json", r"tt0017 \(0017 and 0136\), test",
    ),
    "titles no json": (
        lambda f: (f / "mad2imdb.json").write_text("["), mad_features.UNREADABLE, "mad2imdb", "not a readable json",
    ),
}  # fmt: skip
