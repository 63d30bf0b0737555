"""Checks of the rows of one annotation or subtitle file of MAD."""

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from datamodules.audio_description.annotations import seconds
from datamodules.audio_description.tables import REPLACED
from scripts.checks.report import Report

NUMBER = "a time is not a number of seconds (stops training)"
NEGATIVE = "start is negative (training sets it to 0)"
REVERSED = "end is not after start (training leaves the row out)"
EMPTY = "text is empty (training leaves the row out)"
BYTES = "bytes that are not UTF-8 (training replaces them by U+FFFD)"
UNSORTED = "starts before the row of the same movie above it (training sorts)"
NO_MOVIE = "movie id is empty"
TWICE = "ann_id is not unique (stops training)"
REPEATED = "same movie, times and text as an earlier row"
AFTER = "begins after the features of its movie end (training leaves it out)"
LATE = "ends more than a second after the features of its movie"
CUT = "ends up to a second after the features of its movie (training cuts it)"
DURATION = "time after the movie_duration of its row"
NO_DURATION = "movie_duration is not a number of seconds"
LENGTH = "movie_duration and features differ by more than a second"

SLACK = 1.0  # seconds


def check_rows(report: Report, path: Path, table: pd.DataFrame, expected: Mapping[str, int]) -> None:
    """Faults of single rows. expected: how many rows of a kind are there on purpose; that many are only a note."""
    start, end = seconds(table["start"]), seconds(table["end"])
    text = table["text"]

    def add(kind: str, bad: pd.Series, detail: pd.Series | None = None) -> None:
        names = names_of(path, table, bad, detail)
        report.add(kind, path, names, note=len(names) <= expected.get(kind, 0))

    add(NUMBER, start.isna() | end.isna(), table["start"] + " to " + table["end"])
    add(NEGATIVE, start < 0, table["start"] + " s")
    add(REVERSED, end <= start.clip(lower=0), table["start"] + " to " + table["end"])
    add(EMPTY, text == "")
    add(BYTES, text.str.contains(REPLACED) | table["movie"].str.contains(REPLACED))
    add(NO_MOVIE, table["movie"] == "")
    add(UNSORTED, start.groupby(table["movie"]).diff() < 0, table["start"] + " s")
    add(TWICE, table["ann_id"].duplicated(), table["ann_id"])
    same = pd.DataFrame({"movie": table["movie"], "start": start, "end": end, "text": text}).duplicated()
    add(REPEATED, same & (text != ""))


def check_times(report: Report, path: Path, table: pd.DataFrame, rows: Mapping[str, int], fps: float) -> None:
    """Rows against the lengths of their movies. rows: feature rows by movie; movies that are not in it are skipped."""
    start, end = seconds(table["start"]), seconds(table["end"])
    last = table["movie"].map(rows).astype(float)  # NaN where unknown: every comparison below is False
    length = last / fps
    after = (start * fps).map(math.floor, na_action="ignore") >= last
    over = end - length
    detail = table["start"] + " to " + table["end"] + " of " + length.map("{:.1f} s".format)
    for kind, bad, note in (
        (AFTER, after, False),
        (LATE, (over > SLACK) & ~after, False),
        (CUT, (over > 0) & (over <= SLACK) & ~after, True),
    ):
        report.add(kind, path, names_of(path, table, bad, detail), note=note)
    if "duration" not in table:
        return
    duration = seconds(table["duration"])
    late = (start > duration) | (end > duration + SLACK)
    detail = table["start"] + " to " + table["end"] + " of " + table["duration"] + " s"
    report.add(DURATION, path, names_of(path, table, late, detail))
    report.add(NO_DURATION, path, names_of(path, table, duration.isna(), table["duration"]))
    differ = table[(duration - length).abs() > SLACK].drop_duplicates("movie")
    report.add(
        LENGTH,
        path,
        [
            f"{movie} ({given} s, features {rows[movie] / fps:.1f} s)"
            for movie, given in zip(differ["movie"], differ["duration"], strict=True)
        ],
    )


def names_of(path: Path, table: pd.DataFrame, bad: pd.Series, detail: pd.Series | None = None) -> list[str]:
    """Names of the rows for which `bad` is True: place in the file (in a json the id), movie and `detail`."""
    chosen = table[bad.to_numpy(bool)]
    details = [""] * len(chosen) if detail is None else (", " + detail[chosen.index]).tolist()
    places = chosen["ann_id"] if path.suffix == ".json" else "row " + chosen["row"].astype(str)
    return [f"{p} ({m or 'no movie'}{d})" for p, m, d in zip(places, chosen["movie"], details, strict=True)]
