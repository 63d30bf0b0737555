"""Text files as one row of Unicode code points.

    paths = found("plays/*.txt")     # a path, a pattern, or a list of both
    text = read(paths)               # (N,) int32: the files one after the other

A file is UTF-8, with or without the mark at its beginning (BOM), or UTF-16 or UTF-32 with one. Line ends become "\\n".
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.errors import DataError, near
from datamodules.formats.decoding import decoded

SETTING = "data.files"


def found(files: str | Sequence[str]) -> list[Path]:
    """The files in the order in which they are given; those of a pattern are sorted by name.

    Raises DataError: no file, a folder, a pattern that matches nothing, a file that is named twice.
    """
    given = [files] if isinstance(files, str) else list(files)
    if not given:
        raise DataError(
            f"{SETTING}: an empty list; allowed: a file, a pattern such as 'texts/*.txt', or a list of them"
        )
    paths: list[Path] = []
    for one in given:
        paths += _matches(one)
    for number, path in enumerate(paths):
        if path.resolve() in [other.resolve() for other in paths[:number]]:
            raise DataError(
                f"{SETTING}: {path} is named twice; the text would be in training and in the test: name it once"
            )
    return paths


def _matches(one: str) -> list[Path]:
    path = Path(one).expanduser()
    if path.is_dir():
        raise DataError(f"{SETTING}: {one} is a folder; name its files, such as '{one.rstrip('/')}/*.txt'")
    if path.is_file():
        return [path]
    looked = f"looked in {(path.parent if path.parent.is_dir() else Path.cwd()).resolve()}"
    if not set("*?[") & set(one):
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise DataError(f"{SETTING}: there is no file {one}; {looked}.{near(path.name, names)}")
    base = Path(path.anchor)  # of a relative pattern it is the working directory
    matches = sorted(match for match in base.glob(str(path.relative_to(base))) if match.is_file())
    if not matches:
        raise DataError(f"{SETTING}: no file matches {one}; {looked}")
    return matches


def read(paths: Sequence[Path]) -> np.ndarray:
    """(N,) int32, the code points of all files in their order. Raises DataError that names a file: unreadable, empty,
    or not text in such an encoding."""
    return np.concatenate([_code_points(path) for path in paths])


def _code_points(path: Path) -> np.ndarray:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    text = decoded(path, raw)
    if not text:
        raise DataError(f"{path}: the file is empty")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return code_points(text)


def code_points(text: str) -> np.ndarray:
    """(N,) int32."""
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.int32)


def text_of(codes: np.ndarray) -> str:
    """The text of code points (N,)."""
    return np.asarray(codes, np.int32).tobytes().decode("utf-32-le", errors="surrogatepass")
