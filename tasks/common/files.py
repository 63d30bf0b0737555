"""Files that are written whole or not at all, and JSON lines that know their line in the file."""

import errno
import json
import logging
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.formats.json_text import parse_json
from datamodules.formats.text import read_lines
from tasks.common.errors import StorageError

log = logging.getLogger(__name__)


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_text(path: Path, text: str) -> None:
    """Writes a file beside `path` and renames it: a reader sees the old content or the new, never half of it.

    Raises StorageError if it cannot be written; `path` is then as it was.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))  # names can hold bytes that are not text


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_text`."""
    draft = draft_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(content)
            synced(file)
        draft.replace(path)
    except OSError as error:
        discard(draft)
        raise StorageError(why_not_written(path, error)) from error
    except BaseException:
        discard(draft)
        raise


def check_writable(path: Path) -> None:
    """Raises StorageError before any work if `write_text` could not write there; makes the folder."""
    draft = draft_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.touch()
    except OSError as error:
        raise StorageError(why_not_written(path, error)) from error
    finally:
        discard(draft)


def draft_of(path: Path) -> Path:
    """Where this process writes what becomes `path`: in the same folder, so that renaming it moves no bytes."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def discard(draft: Path) -> None:
    """Removes a draft that will not become a file, if there is one."""
    with suppress(OSError):
        draft.unlink()


def synced(place: Any) -> None:
    """Hands an open file, or the names in a folder, to the disk."""
    if isinstance(place, Path):
        try:
            number = os.open(place, os.O_RDONLY)
        except OSError:  # a system that opens no folders
            return
        try:
            os.fsync(number)
        except OSError:
            log.debug("%s: this file system does not sync folders", place)
        finally:
            os.close(number)
        return
    place.flush()
    os.fsync(place.fileno())


def alive(process: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def why_not_written(path: Path, error: OSError) -> str:
    """One line: the file, the reason, and if there is no room the folder's file system and what is free on it."""
    reason = error.strerror or str(error)
    if error.errno not in NO_ROOM:
        return f"{path} cannot be written: {reason}"
    folder = next((folder for folder in path.absolute().parents if folder.is_dir()), Path("/"))
    usage = shutil.disk_usage(folder)
    mount = next(place for place in (folder, *folder.parents) if os.path.ismount(place))
    return (
        f"{path} cannot be written: {reason}. {usage.free:,} of {usage.total:,} bytes are free on the file system of "
        f"{folder} (mounted at {mount}): make room, or choose another folder with paths.log_dir=..."
    )


def write_json(path: Path, value: Any) -> None:
    """`value` as strict JSON: a NaN or an infinity becomes null."""
    write_text(path, json.dumps(strict(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object per line."""
    write_text(path, "".join(json.dumps(strict(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


@contextmanager
def named_places(*folders: str | Path) -> Iterator[None]:
    """Turns "No space left on device" of anything inside into a StorageError that names the fullest of the folders."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        there = [next(place for place in (Path(f), *Path(f).parents) if place.exists()) for f in folders]
        full = min(there, key=lambda place: shutil.disk_usage(place).free)
        raise StorageError(
            why_not_written(Path(error.filename or full / "(a file that is not named)"), error)
        ) from error


class JsonLines(list):
    """The rows of a file, and the line of each."""

    def __init__(self, rows: Sequence[dict], path: Path, lines: Sequence[int]):
        super().__init__(rows)
        self.path, self.lines = path, lines


def read_jsonl(path: str | Path) -> JsonLines:
    """The objects of a file, one per line; empty lines are skipped.

    Raises DataError: no such file, not UTF-8, a line that is not a JSON object.
    """
    path = Path(path)
    rows, lines = [], []
    for number, line in read_lines(path):
        row = parse_json(line, f"{path}, line {number}: not JSON: {line.strip()[:60]!r}")
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: needs a JSON object, got {line.strip()[:60]!r}")
        rows.append(row)
        lines.append(number)
    return JsonLines(rows, path, lines)


def strict(value: Any) -> Any:
    """`value` as strict JSON has it: plain values, None for a NaN or an infinity."""
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if hasattr(value, "item"):  # a scalar of NumPy or torch
        return strict(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
