"""What a run computed and keeps beside the data for the next one: a JSON file with a checksum.

found = read_kept(path)             # None: it is not there, or it is damaged (which is said)
if found is None:
    found = compute()
    write_kept(path, found)         # whole or not at all; a folder that can only be read is said and no error
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.formats.json_text import read_json

log = logging.getLogger(__name__)

_writing: ContextVar[bool] = ContextVar("writing", default=True)


PLACES = frozenset(("data.root", "paths.data_dir"))  # keys that say where the data are


@contextlib.contextmanager
def nothing_kept(unless: Collection[str] = ()) -> Iterator[None]:
    """Inside, nothing is written beside the data, for a run's folder may be a stranger's and name any place.

    unless: the keys that the user set; if they say where the data are, that folder may be written to.
    """
    token = _writing.set(_writing.get() and not PLACES.isdisjoint(unless))
    try:
        yield
    finally:
        _writing.reset(token)


def may_keep() -> bool:
    """Whether files may be written beside the data."""
    return _writing.get()


def read_kept(path: Path, fits: Callable[[Any], bool] = lambda value: True) -> Any:
    """The kept value; None if there is none, or if it is damaged or does not fit, which is said: it is made again."""
    if not path.is_file():
        return None
    try:
        content = read_json(path)
    except DataError as error:
        log.warning("%s It is made again.", error)
        return None
    whole = isinstance(content, dict) and content.keys() == {"sha256", "value"}
    if not whole or content["sha256"] != checksum(content["value"]) or not fits(content["value"]):
        log.warning("%s: not what was kept there, so it is damaged, or of an older version. It is made again.", path)
        return None
    return content["value"]


def write_kept(path: Path, value: Any) -> None:
    """Keeps a value that JSON can hold."""
    if not may_keep():
        return
    draft = path.with_suffix(f".{os.getpid()}{path.suffix}")
    try:
        draft.write_text(json.dumps({"sha256": checksum(value), "value": value}, indent=1) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:  # a folder that can only be read, a full disk
        with contextlib.suppress(OSError):
            draft.unlink()
        log.info("%s cannot be kept (%s): the next run makes it again", path, error.strerror)


def reasons(value: Any) -> bool:
    """Whether a kept value is text by name: what cannot be read, and why."""
    return isinstance(value, dict) and all(isinstance(why, str) for why in value.values())


def checksum(value: Any) -> str:
    """The SHA-256 of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
