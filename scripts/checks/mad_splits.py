"""Checks of MAD's lists of movies against each other, against the annotations, and against the titles of the films."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from datamodules.audio_description.splits import EVALUATION, Described, lost_zeros, read_splits
from datamodules.audio_description.titles import TITLES, read_titles, shared_titles
from datamodules.errors import DataError, near
from scripts.checks.report import Report

UNKNOWN = "no such list for a split (stops training)"
LISTED_TWICE = "listed twice"
IN_TRAINING = "evaluation movie in the training list (stops training)"
IN_BOTH = "movie in the training and in the validation list (stops training)"
ZEROS = "ids that differ by leading zeros alone (stops training)"
UNDESCRIBED = "listed movie without a description"
UNLISTED = "described movie that is in no list"
TITLE = "film that is trained on under another id"
UNTITLED = f"movie that {TITLES} does not have"
UNUSABLE = "splits that cannot be read (stops training)"

Lists = Mapping[str, list[str]]


def check_lists(report: Report, path: Path, lists: Lists, wanted: Mapping[str, str | int]) -> dict[str, list[str]]:
    """Faults of the lists by themselves. Returns split -> movies of its list, of those splits that have one."""
    ids = {}
    for split, name in wanted.items():
        if not isinstance(name, str):
            continue
        if name in lists:
            ids[split] = lists[name]
        else:
            hint = near(name, lists)
            report.add(UNKNOWN, path, [f"data.{split}_split={name} (it has {', '.join(lists) or 'none'}.{hint})"])
    for name, movies in lists.items():
        twice = [movie for movie, count in Counter(movies).items() if count > 1]
        report.add(LISTED_TWICE, path, [f"{movie} in {name}" for movie in twice])
    train, test = set(ids.get("train", ())), set(ids.get("test", ()))
    report.add(IN_TRAINING, path, sorted(train & (test | set(lists.get(EVALUATION, ())))))
    report.add(IN_BOTH, path, sorted(train & set(ids.get("val", ())) - test))
    return ids


def check_described(report: Report, path: Path, lists: Lists, ids: Lists, files: Mapping[str, list[Described]]) -> None:
    """The lists against the annotations. files: split -> where its movies may be described."""
    listed = {movie for movies in lists.values() for movie in movies}
    every = {file.file: file.movies - {""} for group in files.values() for file in group}
    spelt = {
        (name, movie, twin)
        for split, group in files.items()
        for name, movies in ((file.file, every[file.file]) for file in group)
        for movie, twin in lost_zeros(ids.get(split, []), movies, listed)
    }
    for name, movie, twin in sorted(spelt):
        report.add(ZEROS, name, [f"{movie} (a list has {twin})"])
    misspelt = {name for _, *pair in spelt for name in pair}
    for name, movies in every.items():
        report.add(UNLISTED, name, sorted(movies - listed - misspelt))
    for split, movies in ids.items():
        described = set().union(*(every[file.file] for file in files[split]))
        where = " and ".join(file.file for file in files[split])
        known = described | misspelt | set(ids.get("test", ()) if split == "train" else ())
        report.add(UNDESCRIBED, where, [f"{movie} ({split})" for movie in movies if movie not in known])


def used_movies(
    report: Report, path: Path, wanted: Mapping[str, str | int], ids: Lists, described: list[Described | None]
) -> dict[str, list[str]]:
    """split -> movies that training would use; if it would stop, the described movies of the lists."""
    try:
        return read_splits(path, wanted, *described)
    except DataError as error:
        if not {UNKNOWN, IN_TRAINING, IN_BOTH, ZEROS} & set(report.kinds()):
            report.add(UNUSABLE, path, [str(error)])
        there = {movie for file in described if file for movie in file.movies}
        return {split: [movie for movie in movies if movie in there] for split, movies in ids.items()}


def check_titles(report: Report, folder: Path, movies: Lists) -> None:
    """Films under two ids of which one is trained on, if the list of titles is there."""
    path = folder / TITLES
    if not path.is_file():
        report.looked_at.append(
            f"{TITLES}: not there, so films that are in two splits under two ids were not looked for"
        )
        return
    try:
        titles = read_titles(path)
    except DataError as error:
        report.add("cannot be read (stops training)", path, [str(error)])
        return
    for split in ("val", "test"):
        pairs = shared_titles(titles, movies.get("train", ()), movies.get(split, ()))
        report.add(TITLE, path, [f"{pair}, {split}" for pair in pairs])
    used = sorted({movie for names in movies.values() for movie in names})
    report.add(UNTITLED, path, [movie for movie in used if movie not in titles], note=True)
