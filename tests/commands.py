"""The command lines of the documentation: found in its pages, and split as a shell would.

>>> [command.words for command in commands()]  # [["python", "train.py", "experiment=madv2_lcaam"], ...]
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from tests.programs import ROOT

TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
PAGES = [*TOP, *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
PROGRAMS = ("python", ".venv/bin/python", "torchrun", "make")
PLACEHOLDER = re.compile(r"<[^<>|]*>")  # <time>, <folder of a run>


@dataclass(frozen=True)
class Command:
    """One command line: the page that shows it, and its words; a placeholder has become the word `placeholder`."""

    page: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def commands() -> list[Command]:
    """Every command of every page, each once, in the order of the pages."""
    found = {words: page for page in reversed(PAGES) for words in reversed(list(of_page(page)))}
    return [Command(page, words) for words, page in reversed(found.items())]


def of_page(page: str) -> Iterator[tuple[str, ...]]:
    """Indented lines, lines of code blocks and code within a sentence that begin with one of PROGRAMS."""
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r" *\\\n\s*", " ", text)  # a line that goes on
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    lines = [line for line in text.splitlines() if re.match(r"\s{4,}\S|\w+ ", line)]
    for line in (*lines, *spans):
        line = PLACEHOLDER.sub("placeholder", re.sub(r"\s+#\s.*$", "", line.strip()))
        first, _, rest = line.partition(" ")
        while re.fullmatch(r"[A-Z_]+=\S*", first):  # a variable of the environment
            first, _, rest = rest.partition(" ")
        if first in PROGRAMS and (line in spans or rest) and not is_prose(first, rest):
            yield (first, *shlex.split(rest))


def is_prose(first: str, rest: str) -> bool:
    """`make` begins sentences too: a target is a word of its own, followed by variables at most."""
    return first == "make" and not re.fullmatch(r"[a-z-]+( [A-Z_]+=\S*)*", rest)
