"""Subtitles of movies: a csv of lines with movie, start, end (seconds) and text.

    lines = read_subtitles("data/madv2/mad-v2-subs.csv", movies)     # of these movies, in (movie, start) order

MAD-v2's columns are not documented: ALIASES says which names are understood. If the movies are IMDb ids, mad2imdb.json
beside the file says which movies they are. Bad rows are treated, counted and named as in annotations.py.
"""

import logging
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from datamodules.audio_description.annotations import read_annotations
from datamodules.audio_description.titles import TITLES, read_titles
from datamodules.errors import DataError, some
from datamodules.formats.decoding import UTF8

log = logging.getLogger(__name__)

ALIASES = {
    "movie": ("movie", "movie_id", "movieid", "video", "vid", "imdbid", "imdb_id", "imdb"),
    "start": ("start", "start_time"),
    "end": ("end", "end_time"),
    "text": ("text", "sentence", "subtitle", "subtitles"),
}


def read_subtitles(
    path: str | Path, movies: Collection[str], level: int = logging.WARNING, encoding: str = UTF8
) -> pd.DataFrame:
    """Lines of `movies`, columns movie, start, end, text; movies without any are counted and named at `level`.

    Raises DataError: unreadable file, missing column, a time that is not a number; ids that lost leading zeros; no line
    of any of the movies.
    """
    path = Path(path)
    lines = read_annotations(path, level, aliases=ALIASES, of="text", encoding=encoding)
    movies = set(movies)
    lines = by_movie(path, lines, movies)
    there = set(lines["movie"])
    if lost := lost_zeros(there, movies):
        raise DataError(
            f"{path}: {len(lost)} movie ids differ from those of the segments by leading zeros: {some(lost)}. Ids are "
            "text; pandas keeps them with dtype=str, a spreadsheet does not."
        )
    if movies and not movies & there:
        raise DataError(
            f"{path}: no line of any of the {len(movies)} movies that are read ({some(sorted(movies), 3)}); its movies "
            f"are {some(sorted(there), 3)}."
        )
    if silent := sorted(movies - there):
        log.log(level, "%s: no line of %d movies: %s", path, len(silent), some(silent))
    return lines[lines["movie"].isin(movies)].reset_index(drop=True)


def by_movie(path: Path, lines: pd.DataFrame, movies: Collection[str]) -> pd.DataFrame:
    """`lines` with IMDb ids replaced by ids of movies; if two movies are one film, both get its lines."""
    named = set(lines["movie"])
    if named & set(movies) or not any(name.startswith("tt") for name in named):
        return lines
    if not (path.parent / TITLES).is_file():
        raise DataError(
            f"{path}: its movies are IMDb ids ({some(sorted(named), 3)}); {path.parent / TITLES}, which says whose "
            "they are, is not there."
        )
    titles = pd.DataFrame(read_titles(path.parent / TITLES).items(), columns=["id", "movie"])
    lines = lines.merge(titles, on="movie").drop(columns="movie").rename(columns={"id": "movie"})
    return lines.sort_values(["movie", "start"], kind="stable", ignore_index=True)


def lost_zeros(found: Collection[str], expected: Collection[str]) -> list[str]:
    """ "'17' is '0017' there" for each id of `found` that lacks leading zeros to be one of `expected`."""
    twins = {movie.lstrip("0"): movie for movie in expected}
    return [
        f"{movie!r} is {twin!r} there"
        for movie in sorted(found)
        if movie not in expected and (twin := twins.get(movie.lstrip("0")))
    ]
