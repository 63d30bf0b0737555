"""Titles of movies: MAD's `mad2imdb.json` says which ids belong to one film; the ids alone cannot show this.

titles = read_titles("data/madv2/mad2imdb.json")       # {"2738": "tt0114369", ...}
shared_titles(titles, train, val)                      # ["tt0114369 (2738 and 1051)", ...]
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

from datamodules.errors import DataError, some
from datamodules.formats.json_text import read_json

log = logging.getLogger(__name__)

TITLES = "mad2imdb.json"


def read_titles(path: str | Path) -> dict[str, str]:
    """Movie id -> IMDb id. DataError: not a json object of texts."""
    path = Path(path)
    titles = read_json(path)
    if not isinstance(titles, dict) or any(isinstance(value, (dict, list)) for value in titles.values()):
        raise DataError(f"{path}: expected {{movie id: IMDb id}}.")
    return {movie: str(title) for movie, title in titles.items()}


def warn_of_shared_titles(folder: Path, movies: Mapping[str, list[str]]) -> None:
    """Warns of films of "val" and "test" that "train" has under another id, if the folder has the list of titles."""
    if not (folder / TITLES).is_file():
        return
    titles = read_titles(folder / TITLES)
    for split in ("val", "test"):
        if pairs := shared_titles(titles, movies["train"], movies[split]):
            log.warning(
                "%s: %d films of %s are trained on under other ids: %s",
                folder / TITLES, len(pairs), split, some(pairs),
            )  # fmt: skip


def shared_titles(titles: Mapping[str, str], movies: Iterable[str], others: Iterable[str]) -> list[str]:
    """Names of the pairs of movies, one from each side, that are one film; a movie does not pair with itself."""
    by_title: dict[str, list[str]] = {}
    for movie in others:
        if movie in titles:
            by_title.setdefault(titles[movie], []).append(movie)
    return [
        f"{titles[movie]} ({movie} and {other})"
        for movie in movies
        for other in by_title.get(titles.get(movie, ""), ())
        if other != movie
    ]
