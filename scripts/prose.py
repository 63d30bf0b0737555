"""Finds phrases that are hard to read for engineers with English as a second language.

    python -m scripts.prose                          everything that is read: pages, docstrings, comments, messages
    python -m scripts.prose README.md docs lcaam     these files and folders

In Python files it reads docstrings, comments and string literals, in Markdown the whole text, in YAML, TOML, make and
container files the comments. Prints `file:line: pattern: the line`, what to write instead, and how many phrases there
are per pattern and per folder; the exit status is 1 if there is one. False positives are listed in
scripts/prose_allowed.txt, one per line: the file, a colon, and a part of the line. If the whole project is checked, an
entry that matches nothing is an error too.
"""

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from scripts.arguments import parser_for
from scripts.prose_patterns import PATTERNS

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = ROOT / "scripts" / "prose_allowed.txt"
FOLDERS = (
    ".github", "configs", "containers", "datamodules", "docs", "hydra_plugins", "lcaam", "scripts", "tasks", "tests",
)  # fmt: skip
COMMENTED = (".yaml", ".yml", ".toml", ".cfg", ".sh")  # files of which only the comments are prose
MANY = 32  # files from which several processes are faster
NAMES = ("Makefile", "Dockerfile", "Containerfile")


@dataclass(frozen=True)
class Text:
    """One piece of prose: its kind, its words, and the line of the file on which it begins."""

    kind: str
    words: str
    line: int


@dataclass(frozen=True)
class Finding:
    """A pattern in a file; `source` is the line on which the match begins."""

    file: str
    line: int
    pattern: str
    source: str


def texts(path: Path) -> Iterator[Text]:
    """The prose of one file, by its suffix. Raises ValueError for a kind of file that holds none."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from python_comments(source)
        yield from python_strings(source)
    elif path.suffix == ".md":
        yield Text("markdown", source, 1)
    elif path.suffix in COMMENTED or path.name in NAMES:
        lines = [(n, found[1]) for n, line in enumerate(source.splitlines(), 1) if (found := after_hash(line))]
        yield from blocks([(n, text, source.splitlines()[n - 1].lstrip().startswith("#")) for n, text in lines])
    else:
        raise ValueError(f"{path}: not a file with prose (allowed: .py, .md, {', '.join((*COMMENTED, *NAMES))})")


def after_hash(line: str) -> re.Match[str] | None:
    return re.search(r"(?:^|\s)#+ ?(.*)$", line)


def blocks(lines: list[tuple[int, str, bool]]) -> Iterator[Text]:
    """Comments as (line, words, alone on its line). One below another continues it; `trailing` follows code."""
    piece, first, kind = [], 0, "comment"
    for number, words, alone in lines:
        if not (piece and alone and number == first + len(piece)):
            if piece:
                yield Text(kind, "\n".join(piece), first)
            piece, first, kind = [], number, "comment" if alone else "trailing"
        piece.append(words)
    if piece:
        yield Text(kind, "\n".join(piece), first)


def python_comments(source: str) -> Iterator[Text]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = [token for token in tokens if token.type == tokenize.COMMENT]
    yield from blocks([(t.start[0], t.string.lstrip("#").strip(), t.line.lstrip().startswith("#")) for t in found])


def python_strings(source: str) -> Iterator[Text]:
    """Docstrings, and string literals that hold more than one word; {} takes the place of an f-string's values."""
    tree = ast.parse(source)
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    heads = [node.body[0] for node in ast.walk(tree) if isinstance(node, owners) and ast.get_docstring(node)]
    docstrings = {id(head.value) for head in heads if isinstance(head, ast.Expr)}
    inner: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in ast.walk(node) if part is not node}
            words = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            words = node.value
        else:
            continue
        if " " in words.strip():
            yield Text("docstring" if id(node) in docstrings else "string", words, node.lineno)


def findings(path: Path, name: str) -> list[Finding]:
    """Every match in one file, in the order of its lines; a line is reported once per pattern."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = {}
    for text in texts(path):
        for pattern in PATTERNS:
            if text.kind not in pattern.kinds:
                continue
            for match in pattern.matches(text.words):
                line = line_of(lines, text, match)
                source = lines[line - 1].strip()
                found[line, pattern.name] = Finding(name, line, pattern.name, source)
    return [found[key] for key in sorted(found)]


def of_all(read: list[Path]) -> Iterator[Finding]:
    """The matches in all files, in their order; many files are shared among the processors."""
    names = [str(path.resolve()).removeprefix(f"{ROOT}/") for path in read]
    if len(read) < MANY:
        yield from chain.from_iterable(map(findings, read, names))
        return
    with ProcessPoolExecutor() as pool:
        yield from chain.from_iterable(pool.map(findings, read, names, chunksize=16))


def line_of(lines: list[str], text: Text, match: re.Match[str]) -> int:
    """The line on which a match begins. In a string that is written in pieces, the first line with its words."""
    start = match.start() + len(match[0]) - len(match[0].lstrip())
    line = text.line + text.words.count("\n", 0, start)
    if text.kind == "string":
        words = re.split(r"\n|\{\}", match[0].strip())[0][:30]
        line = next((n for n in range(text.line, min(text.line + 12, len(lines)) + 1) if words in lines[n - 1]), line)
    return min(line, len(lines))


def allowed() -> list[tuple[str, str]]:
    """(file, part of a line) of every false positive; the part `*` allows a whole file."""
    lines = ALLOWED.read_text(encoding="utf-8").splitlines()
    pairs = (line.split(":", 1) for line in lines if line.strip() and not line.startswith("#"))
    return [(file.strip(), part.strip()) for file, part in pairs]


def files(paths: list[Path]) -> list[Path]:
    """The files with prose among and below the paths. Raises FileNotFoundError for a path that is not there."""
    found = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        inner = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [file for file in inner if file.suffix in (".py", ".md", *COMMENTED) or file.name in NAMES]
    return [file for file in found if file.is_file() and "__pycache__" not in file.parts]


def everything() -> list[Path]:
    top = [path for path in sorted(ROOT.iterdir()) if path.is_file()]
    return top + [ROOT / folder for folder in FOLDERS if (ROOT / folder).is_dir()]


def main(arguments: list[str] | None = None) -> int:
    parser = parser_for("prose", __doc__)
    parser.add_argument("paths", nargs="*", type=Path, help="files and folders; default: the whole project")
    paths = parser.parse_args(arguments).paths
    exceptions, used, found = allowed(), set(), []
    for finding in of_all(files(paths or everything())):
        entries = [
            (file, part)
            for file, part in exceptions
            if file == finding.file and (part == "*" or part in finding.source)
        ]
        used.update(entries)
        if not entries:
            found.append(finding)
    for finding in found:
        print(f"{finding.file}:{finding.line}: {finding.pattern}: {finding.source}")
    for pattern in {
        pattern.name: pattern for pattern in PATTERNS if any(f.pattern == pattern.name for f in found)
    }.values():
        print(f"instead of '{pattern.name}': {pattern.advice}")
    for name, counted in (("pattern", Counter(f.pattern for f in found)), ("folder", Counter(map(folder_of, found)))):
        print(f"by {name}: {', '.join(f'{key} {n}' for key, n in counted.most_common()) or 'none'}")
    stale = [] if paths else [entry for entry in exceptions if entry not in used]
    for file, part in stale:
        print(f"{ALLOWED.name}: nothing matches '{file}: {part}'; delete the line")
    print(f"{len(found)} phrase{'s' if len(found) != 1 else ''} to rewrite")
    return 1 if found or stale else 0


def folder_of(finding: Finding) -> str:
    return finding.file.split("/")[0] if "/" in finding.file else "."


if __name__ == "__main__":
    sys.exit(main())
