"""A small language of who has what, with the probability of every character.

    ann has two red pens. bob has a blue cup. bob? a blue cup. two red pens? ann.

A story tells of one to `facts` people, each with one kind of thing, and then asks for each fact once, in random order,
by the person or by the things; the answer is a copy. Things after "a" are singular and all others plural. How often a
character occurs says little here: a model has to know words, agreement, and what was said before.
"""

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

PEOPLE = ("ann", "bob", "cas", "dan", "eva", "fay", "gus", "hal", "ida", "jon", "kim", "leo")
COUNTS = ("a", "two", "three", "four")
COLOURS = ("red", "blue", "green", "black", "white", "pink")
THINGS = ("pen", "cup", "key", "hat", "map", "bag", "coin", "ring")
MORE = 0.5  # probability that a story has one more fact, as long as it may

Options = tuple[tuple[str, float], ...]  # texts, none of which begins another one, and their probabilities


@lru_cache(maxsize=100_000)
def nats_of(options: Options, chosen: str) -> tuple[float, ...]:
    """-log of the probability of each character of `chosen`, given those before it, if one of the options follows."""
    left = list(options)
    found = []
    for end in range(1, len(chosen) + 1):
        before = sum(weight for _, weight in left)
        left = [(text, weight) for text, weight in left if text.startswith(chosen[:end])]
        found.append(math.log(before / sum(weight for _, weight in left)))
    return tuple(found)


class Teller:
    """Tells stories. rng: what it draws from. facts: the most facts in a story, up to the number of people."""

    def __init__(self, rng: np.random.Generator, facts: int):
        self.rng, self.facts = rng, facts
        self.text: list[str] = []
        self.nats: list[float] = []

    def say(self, options: Mapping[str, float]) -> str:
        """One of the texts, by their weights; it is written down with the nats of its characters."""
        total = sum(options.values())
        known: Options = tuple((text, weight / total) for text, weight in options.items())
        chosen = known[self.rng.choice(len(known), p=[weight for _, weight in known])][0]
        self.text.append(chosen)
        self.nats.extend(nats_of(known, chosen))
        return chosen

    def story(self) -> None:
        """One line."""
        facts: dict[str, str] = {}  # things by person
        opening = self.say(self.openings(facts))
        while not opening.endswith("?"):
            self.tell(opening.split()[0], facts)
            opening = self.say(self.openings(facts))
        self.ask(opening, facts)
        self.say({"\n": 1.0})

    def openings(self, facts: Mapping[str, str]) -> dict[str, float]:
        """How the next sentence may begin, or be: one more fact, or the first question."""
        share = MORE if facts else 1.0
        others = [person for person in PEOPLE if person not in facts]
        if len(facts) == self.facts or not others:
            return self.questions(facts, list(facts), 1.0)
        blank = " " if facts else ""
        more = {f"{blank}{person} has": share / len(others) for person in others}
        return more | self.questions(facts, list(facts), 1.0 - share)

    def tell(self, person: str, facts: dict[str, str]) -> None:
        """The rest of a fact, which joins the others."""
        count = self.say(dict.fromkeys([f" {count} " for count in COUNTS], 1.0))
        colour = self.say(dict.fromkeys([f"{colour} " for colour in COLOURS], 1.0))
        plural = "" if count == " a " else "s"
        thing = self.say(dict.fromkeys([f"{thing}{plural}." for thing in THINGS], 1.0))
        facts[person] = f"{count.strip()} {colour}{thing[:-1]}"

    @staticmethod
    def questions(facts: Mapping[str, str], left: list[str], share: float) -> dict[str, float]:
        """The questions for the facts that are left, with `share` as the sum of their weights."""
        found: dict[str, float] = {}
        for person in left:
            for text in (f" {person}?", f" {facts[person]}?"):
                found[text] = found.get(text, 0.0) + share / (2 * len(left))
        return found

    def ask(self, question: str, facts: dict[str, str]) -> None:
        """Answers the question that was said, and asks the others."""
        left = list(facts)
        while True:
            asked = question[1:-1]
            if asked in facts:
                self.say({f" {facts[asked]}.": 1.0})
                left.remove(asked)
            else:  # several may have the same
                people = [person for person in left if facts[person] == asked]
                answer = self.say(dict.fromkeys([f" {person}." for person in people], 1.0))
                left.remove(answer[1:-1])
            if not left:
                return
            question = self.say(self.questions(facts, left, 1.0))
