"""Writes a generated data set once: under a lock, into a temporary folder that is renamed when it is complete."""

import dataclasses
import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock

from datamodules.errors import DataError, near
from datamodules.formats.kept import may_keep

log = logging.getLogger(__name__)


def settings_from(cls, values: Mapping):
    """The dataclass `cls` from a mapping; DataError names unknown, missing and wrongly typed keys."""
    fields = {field.name: field.type for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise DataError(
                f"{cls.__name__}: unknown setting '{key}'.{near(key, fields)} Allowed: {', '.join(fields)}."
            )
    missing = [name for name in fields if name not in values]
    if missing:
        raise DataError(f"{cls.__name__}: missing settings {', '.join(missing)}.")
    for key, value in values.items():
        wanted = (int,) if fields[key] is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise DataError(f"{cls.__name__}: {key} is {value!r}, expected {fields[key].__name__}.")
    return cls(**values)


def folder_of(root: Path, name: str, key: Mapping) -> Path:
    """Where `build_once` writes, whether it is there or not."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    return Path(root) / f"{name}-{digest}"


def build_once(root: Path, name: str, key: Mapping, write: Callable[[Path], None]) -> Path:
    """Folder `root/name-<hash of key>`, filled by `write(folder)` unless it is there already.

    `key` (anything JSON can hold) is all that the contents depend on. Processes that ask at the same time wait for
    the first. The folder appears by one rename, so it is complete or absent; what a killed writer left is removed.
    """
    final = folder_of(root, name, key)
    if final.is_dir():
        return final
    if not may_keep():
        raise DataError(
            f"{final}: these generated data are not there, and a loaded run may not choose where to write them; name "
            "the folder: data.root=... or paths.data_dir=..."
        )
    started = time.perf_counter()
    try:
        _write_locked(final, write)
    except OSError as error:
        raise DataError(
            f"{final}: the generated data are not there and cannot be written ({error}); name another "
            "folder: data.root=... or paths.data_dir=..."
        ) from error
    log.info("generated %s in %.1f s", final, time.perf_counter() - started)
    return final


def _write_locked(final: Path, write: Callable[[Path], None]) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(final.name + ".partial")
    with FileLock(final.with_name(final.name + ".lock")):
        if final.is_dir():  # another process wrote it while we waited
            return
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            write(partial)
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
