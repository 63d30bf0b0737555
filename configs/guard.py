"""Whatever a library raises about a file becomes one error with the file's name.

    with reading(f"{path}: cannot be opened as HDF5", DataError):
        file = h5py.File(path)

No list of exceptions is kept: a damaged file makes a library raise what its authors never thought of: TokenError from
NumPy, KeyError from tokenizers, MemoryError for a header that announces 10^12 rows, a panic of Rust code.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

ENDS = (KeyboardInterrupt, SystemExit, GeneratorExit)  # these end the program and are not about the file
LONGEST = 300  # letters of a library's own message


@contextmanager
def reading(problem: str, kind: type[Exception]) -> Iterator[None]:
    """Raises `kind` with "<problem> (<reason>)." for whatever is raised inside, but for `kind` itself and for ENDS."""
    try:
        yield
    except (*ENDS, kind):
        raise
    except BaseException as error:  # a panic of Rust code does not derive from Exception
        raise kind(f"{problem} ({reason(error)}).") from error


def reason(error: BaseException) -> str:
    """What an exception says, in one line."""
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, RecursionError):
        return "lists in lists, too deep to be read"
    if isinstance(error, OSError) and error.strerror:
        return str(error.strerror)
    text = re.sub(r" ?<[\w.]+ object at 0x[0-9a-f]+>", "", " ".join(str(error).split()))  # another one in every run
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return text if text and not isinstance(error, KeyError) else f"{type(error).__name__} {text}".strip()
