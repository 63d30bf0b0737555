"""The movies of each split: the lists of MAD's split file, compared with the movies that the annotations describe.

    movies = read_splits("mad_split.json", {"train": "TRAIN", "val": 10, "test": "EVAL"}, train, test)

`train` and `test` are the annotation files, each a Described; `val` is one more if validation has its own (MAD-v1).
Every movie that is left out is counted and named in the log: listed movies without a description, and described movies
in no list. Ids that lost leading zeros stop the run.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from datamodules.errors import DataError, near, some
from datamodules.formats.json_text import read_json

log = logging.getLogger(__name__)

EVALUATION = "EVAL"  # MAD-eval's list: never trained on, whatever is tested


class Described(NamedTuple):
    """The movies that an annotation file describes."""

    file: str
    movies: set[str]


def read_splits(
    path: str | Path,
    wanted: Mapping[str, str | int],
    train: Described,
    test: Described,
    val: Described | None = None,
    left_out: dict[str, dict[str, int]] | None = None,
) -> dict[str, list[str]]:
    """Described movies of "train", "val" and "test", in the order of the split file.

    wanted: split -> name of a list; for "val" also a number of movies held out of the training list. Validation movies
    may be described in either file, unless `val` is theirs. left_out: gets how many movies of the lists are left out,
    by split and reason.

    Raises DataError: unknown list, a movie in two splits, a movie of EVAL in the training list, a validation list of
    test movies alone, ids that lost leading zeros, nothing described.
    """
    path = Path(path)
    lists = read_lists(path)
    for split, name in wanted.items():
        if isinstance(name, str) and name not in lists:
            raise DataError(
                f"{path}: no list '{name}' for data.{split}_split; it has {', '.join(lists)}.{near(name, lists)}"
            )
    ids = {split: lists[name] for split, name in wanted.items() if isinstance(name, str)}
    if both := sorted(set(ids["train"]) & {*ids["test"], *lists.get(EVALUATION, ())}):
        raise DataError(f"{path}: evaluation movies in the training list {wanted['train']}: {some(both)}.")
    left_out = {} if left_out is None else left_out
    if "val" in ids:
        tested = [movie for movie in ids["val"] if movie in set(ids["test"])]  # V1-VAL holds EVAL movies
        ids["val"] = [movie for movie in ids["val"] if movie not in set(tested)]
        if tested:
            left_out.setdefault("val", {})["movie that is tested on"] = len(tested)
            log.info("%s: %d movies of %s are tested on (left out)", path, len(tested), wanted["val"])
        if lists[wanted["val"]] and not ids["val"]:
            raise DataError(
                f"{path}: data.val_split={wanted['val']}: all its movies are tested on (data.test_split="
                f"{wanted['test']}), which leaves none to validate; choose another list, or a number of movies."
            )
        if both := sorted(set(ids["train"]) & set(ids["val"])):
            raise DataError(f"{path}: movies in {wanted['train']} and in {wanted['val']}: {some(both)}.")
    files = {"train": [train], "val": [train, test] if val is None else [val], "test": [test]}
    listed = {movie for names in lists.values() for movie in names}
    for split, names in ids.items():
        for described in files[split]:
            _check_zeros(path, wanted[split], names, described, listed)
    found = {}
    for split, names in ids.items():
        described = set.union(*(file.movies for file in files[split]))
        found[split] = [movie for movie in names if movie in described]
        where = " and ".join(file.file for file in files[split])
        if split != "val" and not found[split]:
            raise DataError(
                f"{path}: none of the {wanted[split]} movies is annotated in {where}. Were leading zeros of the ids "
                "lost?"
            )
        if lacking := [movie for movie in names if movie not in described]:
            left_out.setdefault(split, {})["movie without a usable description"] = len(lacking)
            log.warning(
                "%s: %d of the %d movies of %s have no usable description in %s (left out): %s",
                path, len(lacking), len(names), wanted[split], where, some(lacking),
            )  # fmt: skip
    for name, movies in {file.file: file.movies for group in files.values() for file in group}.items():
        if unlisted := sorted(movies - listed):
            log.warning("%s: %d movies are in no list of %s: %s", name, len(unlisted), path, some(unlisted))
            if name == test.file:
                left_out.setdefault("test", {})["described movie that is in no list"] = len(unlisted)
    if "val" not in found:
        found["train"], found["val"] = _hold_out(found["train"], wanted["val"])
    return found


def read_lists(path: Path) -> dict[str, list[str]]:
    """Every list of the split file, with ids as text. DataError: not a json object of lists."""
    lists = read_json(path, f"{path}: not a JSON file")
    if not isinstance(lists, dict):
        raise DataError(f"{path}: expected {{list name: [movie ids]}}, found a {type(lists).__name__}.")
    return {name: [str(movie) for movie in ids] for name, ids in lists.items() if isinstance(ids, list)}


def lost_zeros(movies: list[str], described: set[str], listed: set[str]) -> list[tuple[str, str]]:
    """Pairs (described id, listed id) that differ only by leading zeros and of which the described one is not a movie.

    movies: ids of the list; described: ids of an annotation file; listed: ids of all lists.
    """
    listed_as = {movie.lstrip("0"): movie for movie in movies}
    pairs = [(movie, listed_as.get(movie.lstrip("0"), movie)) for movie in sorted(described)]
    return [(movie, twin) for movie, twin in pairs if movie != twin and (twin not in described or movie not in listed)]


def _check_zeros(path: Path, name: str, movies: list[str], described: Described, listed: set[str]) -> None:
    if lost := lost_zeros(movies, described.movies, listed):
        raise DataError(
            f"{described.file}: {len(lost)} movie ids differ from those of {name} in {path} by leading zeros: "
            f"{some(f'{movie!r} is {twin!r} there' for movie, twin in lost)}. Were leading zeros lost? Ids are text; "
            "pandas keeps them with dtype=str, a spreadsheet does not."
        )


def _hold_out(train: list[str], count: int) -> tuple[list[str], list[str]]:
    """The training list without `count` movies that are spread evenly over it, and these movies."""
    if not 0 <= count < len(train):
        raise DataError(f"data.val_split={count}: the training list has {len(train)} annotated movies.")
    val = [train[i * len(train) // count] for i in range(count)]
    return [movie for movie in train if movie not in set(val)], val
