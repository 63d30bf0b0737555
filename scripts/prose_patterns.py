"""The phrases that scripts/prose.py searches for, with what to write instead. A space in them may be a line break."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

SPACE = r"(?:[ \t]+\n?[ \t]*|\n[ \t]*)"  # not from one paragraph to the next
EVERYWHERE = ("markdown", "docstring", "comment", "trailing", "string")


def any_of(*lines: str) -> str:
    """The words of all lines as alternatives of a regular expression."""
    return "|".join(" ".join(lines).split())


COUNTED = any_of(  # what things are counted by, as in "one file per class"; five rows a second are good English
    "answer batch block byte caption channel class clip column core device entry epoch feature file folder form",
    "frame group head image item job key kind label layer line mask metric model module movie name number page",
    "pair panel part pass person picture pixel place point process query rank reference region row run sample scene",
    "seed segment sentence set setting shard shot split start step stream table task tensor token turn unit",
    "value variant video window word worker",
)
LINKS = any_of(  # words before "a row" that make good English of it: no rate
    "about above across after against along also among and are around as at be because before behind below beside",
    "between but by can down during each either else even every except for from has have if in inside instead into is",
    "just like may merely mere must neither no nor not of off often on once only onto or out over per plus quite",
    "rather share since so still such than that the then there through till to toward towards twice under unless",
    "unlike until unto upon was were what when where which while whose will with within without would yet",
)
PLACES = any_of(  # words after which "where" asks for a place
    "say says said know knows knew tell tells told see sees shows show find found finds decide decides learn learns",
    "append begin begins end ends energy false from lie lies matter matters place places region point points position",
    "spot exactly remember remembers guess means names stand stands true",
)
ADJECTIVES = any_of("longer more less fewer better worse different one")  # "is no longer" is good English
COUNT = r"(?:an?|one|two|three|four|five|six|eight|ten|\d+(?:[.,]\d+)*)"
NOUN = rf"(?!(?:{LINKS})\b)[\w-]+"
VERBS = any_of(  # that end as plurals do
    "adds as asks becomes builds calls changes counts does draws ends fills gets gives has holds is keeps knows leaves",
    "makes means meets names needs reads returns says sees sets shows starts takes tells this turns uses wants writes",
)
SUBJECT = any_of(
    "there it they one none nothing both neither either no not only all any every some given needed possible a an",
    "that these this those its their",
)
MASK = r"\S+ (?:\(\S+\) )?is (?:True|False)\b"  # of an array: "zeros where `keep` is False"
VERB = any_of("is are has have had does do was were cannot can differ")


@dataclass(frozen=True)
class Pattern:
    """What is searched for, what to write instead, and the kinds of text in which it is searched for."""

    name: str
    text: str
    advice: str
    kinds: tuple[str, ...] = EVERYWHERE

    def matches(self, text: str) -> Iterator[re.Match[str]]:
        return re.finditer(self.text.replace(" ", SPACE), text, re.IGNORECASE | re.MULTILINE)


PATTERNS = (
    Pattern("headless of", r"\A\s*of (?!course)\w", "'size of the score matrix'", ("docstring", "comment")),
    Pattern(
        "headless of",
        r"^[\x20\t]*[\w`*][\w`*.,\x20/\[\]\"'-]{0,60}?:[\x20\t]+of (?!course)\w",
        "'rank: rank of B A, at least 1'",
        ("docstring",),
    ),
    Pattern("headless of", r"\|[\x20\t]+of (?!course)\w", "name the noun first", ("markdown",)),
    Pattern(
        "distributive a",
        rf"\b{COUNT} (?:{NOUN} ){{0,2}}{NOUN}(?<!ing)(?<!ed)(?<!s) an? (?:{COUNTED})\b(?!-)",
        "'one row per number'",
    ),
    Pattern(
        "distributive a",
        rf"\b(?:{COUNT}|many|few|all|of) (?:{NOUN} )?(?!(?:{VERBS})\b)[a-z-]+s an? (?:{COUNTED})\b(?!-)",
        "'five rows per second'",
    ),
    Pattern(
        "distributive a",
        r"\b\d[\d.,]* (?:[KMGT]i?B|ms|s|bytes|seconds|minutes|hours) an? [a-z]\w+",
        "'22 MB per image'",
    ),
    Pattern(
        "is no",
        rf"(?<!\bthere\s)\b(?:is|are|was|were|be) no (?!(?:{ADJECTIVES})\b)\w+",
        "'is not a number', 'must be a string, got int'",
    ),
    Pattern(
        "where for if",
        r"\b(?:None|nothing|none|zero|error|\w+Error|empty|null|absent|left out|refused|raised) where\b",
        "'None if there is none'",
    ),
    Pattern("where for if", r"\bRaises\b[^.]{0,300}?(?<!says)(?<!say) where\b", "'Raises ... if it is not available'"),
    Pattern(
        "where for if",
        rf"(?<!\w)(?!(?:{PLACES})\b)[\w`\"')*-]+[,;.]? where (?!{MASK})(?:(?:{SUBJECT})\b|[\w`.*-]+ (?:{VERB})\b)",
        "'if' for a condition, 'when' for a time, 'in which' for a place",
    ),
    Pattern("business, affair", r"\b(?:business|affairs?)\b", "'a test checks that', 'defined by the fusion'"),
    Pattern("taken up", r"\b(?:take|takes|taken|took|taking) up\b", "'resumed'"),
    Pattern("stands in", r"\b(?:stands?|stood|standing) in\b", "'is documented in', 'must be listed in'"),
    Pattern("ours", r"\bours\b", "'extension', 'not in the paper', 'this project'"),
    Pattern(
        "whimsy",
        r"\b(?:waits? for the dead|leaves? chance alone|by heart|without a word|be found after an epoch|"
        r"(?:turn|turns|turned) (?:(?:the|an) order(?: of the keys)? )?around|understood nothing)\b",
        "say what happens",
    ),
)
