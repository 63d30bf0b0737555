"""Paths on the command line are taken as they are, whatever letters they have.

    resume=logs/run (2)/checkpoints/last.ckpt  ->  resume='logs/run (2)/checkpoints/last.ckpt'

Hydra's grammar gives `=`, `,`, `(`, `{`, `#`, quotes and blanks a meaning, and this project's own run folders may lie
below a folder with any of them. So the values of keys that are paths are quoted if Hydra would read something else.
"""

import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

PATHS = (
    "resume", r"paths\.\w+", r"data\.root", r"task\.weights", r"task\.tokenizer", r"task\.bert",
    r"task\.llm\.pretrained", r"task\.backbone\.weights",
)  # fmt: skip
VALUE = re.compile(rf"(\+{{0,2}}(?:{'|'.join(PATHS)}))=(.+)", re.DOTALL)
CALL = re.compile(
    r"(choice|glob|interval|range|shuffle|sort|tag|str|extend_list)\(.*\)", re.DOTALL
)  # of Hydra's grammar


def quoted(argument: str) -> str:
    """`argument`; if it is a path that Hydra would read as something else, in quotes.

    What the user quoted, `null`, an interpolation and a call (`choice(a,b)`) stay as they are.
    """
    match = VALUE.fullmatch(argument)
    if match is None:
        return argument
    key, path = match.groups()
    meant = path in ("null", "???") or "${" in path or CALL.fullmatch(path) or path[0] == path[-1] in ("'", '"')
    if meant or _read_as(f"{key}={path}") == path:
        return argument
    return f"{key}='{_escaped(path)}'"


def unquoted(argument: str) -> str:
    """The argument that `quoted` was given."""
    match = VALUE.fullmatch(argument)
    if match is None or not match[2].startswith("'"):
        return argument
    path = _read_as(argument)
    plain = f"{match[1]}={path}"
    return plain if quoted(plain) == argument else argument


def _escaped(path: str) -> str:
    """Hydra reads \\' as a quote, and backslashes before a quote in pairs."""
    return re.sub(r"(\\+)$", r"\1\1", re.sub(r"(\\*)'", r"\1\1\\'", path))


def _read_as(argument: str) -> object:
    """The value that Hydra reads; None if it reads none, or several."""
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException:
        return None
    return None if override.is_sweep_override() else override.value()
