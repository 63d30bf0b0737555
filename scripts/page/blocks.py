"""What a section of the page is made of. All text in it is plain text: the template escapes it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Cell = str | list[str]  # a list: lines of one cell, the later ones smaller


@dataclass
class Note:
    """A paragraph."""

    text: str


@dataclass
class Facts:
    """Names and what they are, as a list."""

    pairs: Sequence[tuple[str, str]]


@dataclass
class Grid:
    """A table of text. wide: its first columns, which hold words and may be broken over lines. below: rows of another
    kind, such as floors. words: all columns hold words."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    wide: int = 1
    below: Sequence[Sequence[Cell]] = ()
    words: bool = False


@dataclass
class Chart:
    """A figure of plotly's. title: its caption. says: what a reader who cannot see it should know. height: pixels."""

    figure: dict[str, Any]
    title: str
    says: str
    height: int = 360


@dataclass
class Charts:
    """Small figures side by side, as many as fit."""

    charts: Sequence[Chart]


@dataclass
class Picture:
    """An image inside the page. source: a data: URI."""

    source: str
    alt: str


@dataclass
class Part:
    """A part of a table's section, under a heading of its own."""

    title: str
    blocks: list[Any] = field(default_factory=list)


@dataclass
class Page:
    """The section of one table. verdicts: the sentences that answer its question. counted: `54 of 56 runs`."""

    title: str
    question: str
    verdicts: list[str]
    scale: str
    task: str
    counted: str
    parts: list[Part]
