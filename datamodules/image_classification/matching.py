"""Classes of two sets compared by name: which number a class of the one has in the other.

    numbers_of(found, trained, "data/imagenet-r")     # (len(found),) the trained number of each class that was found

A class is known by its folder (an ImageNet id, or any name), and by its name if a class index gives one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datamodules.errors import DataError, near, some
from datamodules.image_classification.class_index import Classes

KEYS = (("folders", "folders"), ("names", "names"), ("folders", "names"), ("names", "folders"))


def classes_of(facts: Mapping[str, Any]) -> Classes:
    """The classes that a checkpoint's facts name; older ones have their names alone."""
    names, folders = facts.get("class_names"), facts.get("class_folders")
    if names is None and folders is None:
        return Classes(tuple(str(number) for number in range(facts["classes"])), None)
    names = folders if names is None else names
    return Classes(tuple(folders or names), tuple(names))


def shown(classes: Classes) -> list[str]:
    """A name for each class, none twice: ImageNet has two kinds of crane, which are told apart by their folders."""
    names = classes.names or classes.folders
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    pairs = zip(names, classes.folders, strict=True)
    return [f"{name} ({folder})" if name in twice else name for name, folder in pairs]


def matched(found: Classes, trained: Classes) -> list[int | None]:
    """For each class of `found`, its number among `trained`; None if it is not one of them.

    Folders are compared with folders and names with names, then crosswise; what knows most classes counts.
    """
    if found.folders == trained.folders or (found.names is not None and found.names == trained.names):
        return list(range(len(found)))  # also if a name is there twice
    best: list[int | None] = [None] * len(found)
    for one, other in KEYS:
        mine, theirs = getattr(found, one), getattr(trained, other)
        if mine is None or theirs is None or len(set(theirs)) < len(theirs) or len(set(mine)) < len(mine):
            continue
        number = {name: i for i, name in enumerate(theirs)}
        numbers = [number.get(name) for name in mine]
        if numbers.count(None) < best.count(None):
            best = numbers
    return best


def numbers_of(found: Classes, trained: Classes, place: str, used: Sequence[int] | None = None) -> np.ndarray:
    """The trained number of each class of `found`, (len(found),) int64; -1 for a class that no image has.

    used: the classes of `found` that images have; None: all. Raises DataError, with both lists, for one of them that
    the model was not trained on.
    """
    numbers = matched(found, trained)
    used = range(len(found)) if used is None else used
    if unknown := [number for number in used if numbers[number] is None]:
        mine, theirs = shown(found), shown(trained)
        words = [mine[number] for number in unknown]
        nameless = " The labels of these images are numbers without names" if found.names is None else ""
        nameless = nameless or (" The model's classes are numbers without names" if trained.names is None else "")
        raise DataError(
            f"{place}: the model was not trained on {some(words)} ({len(words)} of the {len(found)} classes there)."
            f"{near(words[0], theirs)} It has: {some(theirs, 12)}. The images have: {some(mine, 12)}. "
            "Classes are compared by name; a subset of the trained ones is scored, in any order."
            f"{nameless + '; data.class_index=FILE can name them.' if nameless else ''}"
        )
    return np.array([-1 if number is None else number for number in numbers], dtype=np.int64)
