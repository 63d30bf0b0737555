"""The checks of MAD-v2: what training would read, file by file, without stopping at the first fault.

    report = check_madv2(datamodule, deep=None)      # deep: None, "sample" or "all"

What is not found here does not stop training: if no finding would, the data module itself is asked at the end.
"""

import copy
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import Progress

from datamodules.audio_description import Descriptions
from datamodules.audio_description.rows import MovieFeatures
from datamodules.audio_description.splits import Described, read_lists
from datamodules.audio_description.subtitles import ALIASES as SUBTITLES
from datamodules.audio_description.subtitles import by_movie, lost_zeros
from datamodules.audio_description.tables import ANNOTATIONS, Aliases, read_table
from datamodules.errors import DataError
from scripts.checks import mad_rows
from scripts.checks.mad_features import UNREADABLE, Depth, check_shapes, check_tracks, check_values
from scripts.checks.mad_rows import check_rows, check_times
from scripts.checks.mad_splits import ZEROS, check_described, check_lists, check_titles, used_movies
from scripts.checks.report import NothingToCheck, Report, quiet

NO_FILE = "missing file (stops training)"
SILENT = "movie without subtitles"
STOPPING = "stops training"  # part of the name of every kind that does
STOPS = f"what no other check found ({STOPPING})"
ANY = 10**9
GENERATED = {mad_rows.UNSORTED: ANY}  # what generated data have on purpose, in all files ...
TRAPS = {kind: 1 for kind in (mad_rows.NEGATIVE, mad_rows.BYTES, mad_rows.EMPTY, mad_rows.REVERSED)}  # ... in training


def check_madv2(data: Descriptions, deep: Depth | None = None) -> Report:
    """Every fault of the files that `data` names. Raises NothingToCheck: no folder, or none of the files in it."""
    if data.mini is not None or not data.root.is_dir():
        _found(data)
    report = Report()
    with quiet():
        there = _files(report, data)
        tables = {
            name: table for name in _annotations(data) if (table := _table(report, data, name, there)) is not None
        }
        movies = _splits(report, data, tables, there)
        used = list(dict.fromkeys(movie for names in movies.values() for movie in names))
        rows = _features(report, data, used, there, deep)
        if data.subtitles is not None:
            tables |= _subtitles(report, data, used, there)
        for name, table in tables.items():
            check_times(report, Path(name), table, rows, data.fps)
        if not any(STOPPING in kind for kind in report.kinds()):
            _train(report, data)
    return report


def _found(data: Descriptions) -> None:
    try:
        data.prepare_data()
    except (DataError, OSError) as error:
        raise NothingToCheck(str(error)) from error


def _annotations(data: Descriptions) -> list[str]:
    return [name for name in dict.fromkeys([data.files.train, data.files.eval, data.val_annotations]) if name]


def _files(report: Report, data: Descriptions) -> set[str]:
    """The configured files that are there."""
    names = [name for name in (*vars(data.files).values(), data.val_annotations) if name is not None]
    if data.subtitles is not None and data.mini is None:
        names.append(data.subtitles)
    there = {name for name in names if (data.folder / name).exists()}
    if not there:
        _found(data)
    report.add(NO_FILE, data.folder, [name for name in dict.fromkeys(names) if name not in there])
    report.looked_at.append(f"{data.folder.resolve()}")
    return there


def _table(report: Report, data: Descriptions, name: str, there: set[str]) -> pd.DataFrame | None:
    if name not in there:
        return None
    expected = {} if data.mini is None else GENERATED | (TRAPS if name == data.files.train else {})
    return _rows(report, data.folder / name, ANNOTATIONS, expected, name, data.encoding)


def _rows(
    report: Report, path: Path, aliases: Aliases, expected: dict[str, int], name: str, encoding: str
) -> pd.DataFrame | None:
    try:
        table = read_table(path, aliases, encoding=encoding)
    except DataError as error:
        report.add(UNREADABLE, name, [str(error)])
        return None
    report.looked_at.append(f"{name}: {len(table)} rows of {table['movie'].nunique()} movies")
    if table.empty:
        report.add(UNREADABLE, name, ["no rows"])
        return None
    check_rows(report, Path(name), table, expected)
    return table


def _splits(
    report: Report, data: Descriptions, tables: dict[str, pd.DataFrame], there: set[str]
) -> dict[str, list[str]]:
    """split -> movies that training would use, as far as that can be known."""
    every = {"": sorted({movie for table in tables.values() for movie in table["movie"]} - {""})}
    if data.files.split not in there:
        return every
    path = data.folder / data.files.split
    try:
        lists = read_lists(path)
    except DataError as error:
        report.add(UNREADABLE, data.files.split, [str(error)])
        return every
    report.looked_at.append(f"{data.files.split}: " + ", ".join(f"{name} {len(ids)}" for name, ids in lists.items()))
    ids = check_lists(report, Path(data.files.split), lists, data.splits)
    names = [data.files.train, data.files.eval, data.val_annotations]
    if any(name is not None and name not in tables for name in names):
        return ids or every
    train, test, val = (name and Described(name, usable(tables[name])) for name in names)
    files = {"train": [train], "val": [train, test] if val is None else [val], "test": [test]}
    check_described(report, path, lists, ids, files)
    movies = used_movies(report, path, data.splits, ids, [train, test, val])
    check_titles(report, data.folder, movies)
    return movies


def usable(table: pd.DataFrame) -> set[str]:
    """Movies with a row that training keeps."""
    start, end = (mad_rows.seconds(table[name]) for name in ("start", "end"))
    return set(table["movie"][(table["text"] != "") & (end > start.clip(lower=0))])


def _features(
    report: Report, data: Descriptions, movies: list[str], there: set[str], deep: Depth | None
) -> dict[str, int]:
    """Rows of each movie that both tracks have."""
    found: dict[str, dict[str, int]] = {}
    tracks: dict[str, MovieFeatures] = {}
    for name, track in zip((data.files.video, data.files.audio), data.tracks_of(data.folder), strict=True):
        if name in there and track is not None:
            tracks[name] = track
            found[name] = check_shapes(report, track, movies)
            report.looked_at.append(
                f"{name}: {len(found[name])} movies, {sum(found[name].values())} rows of {track.width}"
            )
    if len(found) == 2:
        check_tracks(report, *found.values(), data.fps)
    if deep:
        with Progress(console=Console(stderr=True), transient=True) as bar:
            for name, rows in found.items():
                task = bar.add_task(name, total=len(rows))
                check_values(report, tracks[name], rows, deep, lambda task=task: bar.advance(task))
    every = [rows for rows in found.values() if rows]
    return {movie: min(rows[movie] for rows in every if movie in rows) for movie in set().union(*every)}


def _subtitles(report: Report, data: Descriptions, movies: list[str], there: set[str]) -> dict[str, pd.DataFrame]:
    if data.mini is None and data.subtitles not in there:
        return {}
    path = data.subtitles_path()
    lines = _rows(report, path, SUBTITLES, {}, data.subtitles, data.encoding)
    if lines is None:
        return {}
    try:
        lines = by_movie(path, lines, movies)
    except DataError as error:
        report.add(UNREADABLE, data.subtitles, [str(error)])
        return {}
    named = set(lines["movie"])
    report.add(ZEROS, data.subtitles, lost_zeros(named, movies))
    report.add(SILENT, data.subtitles, sorted(set(movies) - named), note=True)
    return {data.subtitles: lines}


def _train(report: Report, data: Descriptions) -> None:
    """Asks the data module itself; features are looked at, not read."""
    asked = copy.copy(data)
    asked.segments, asked.in_memory, asked.normalise = {}, False, "none"
    try:
        asked.prepare_data()
        asked.setup()
    except DataError as error:
        report.add(STOPS, data.folder, [str(error)])
