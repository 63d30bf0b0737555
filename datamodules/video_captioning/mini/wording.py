"""What the mini clips' captions say: one or two digits, their colours and motions, in many wordings.

Scene("then", (Event(7, "red", "left"), Event(2, "blue", "circle")))
describe(scene, rng)    # "a red seven slides to the left and then a blue two moves in a circle"
plainly(scene)          # the commonest wording
"""

from dataclasses import dataclass

import numpy as np

from datamodules.mini.digits import WORDS

COLOURS = {
    "red": (230, 40, 40),
    "green": (50, 200, 60),
    "blue": (70, 90, 250),
    "yellow": (235, 220, 50),
    "white": (240, 240, 240),
}
MOTIONS = {  # the first wording is the commonest
    "left": ("moves to the left", "slides to the left", "goes left"),
    "right": ("moves to the right", "slides to the right", "goes right"),
    "up": ("moves up", "rises", "goes up"),
    "down": ("moves down", "sinks", "goes down"),
    "circle": ("moves in a circle", "circles around", "goes around in a circle"),
    "bounce": ("bounces up and down", "hops up and down", "is bouncing"),
    "shake": ("shakes from side to side", "swings from side to side", "is shaking"),
}
SUBJECTS = ("a {colour} {digit}", "the {colour} {digit}", "a {digit} in {colour}")
JOINS = {
    "then": ("{0} and then {1}", "first {0} then {1}", "{1} after {0}"),
    "while": ("{0} while {1}", "{1} while {0}", "{0} and at the same time {1}"),
}
SHARES = (0.5, 0.3, 0.2)  # of the wordings, in their order


@dataclass(frozen=True)
class Event:
    """A digit that moves."""

    digit: int
    colour: str
    motion: str


@dataclass(frozen=True)
class Scene:
    """What happens in a clip. relation: "alone", "then" (one after the other) or "while" (at the same time)."""

    relation: str
    events: tuple[Event, ...]


def words_of(event: Event, subject: str, motion: str) -> str:
    said = f"{subject.format(colour=event.colour, digit=WORDS[event.digit])} {motion}"
    return said.replace("a eight", "an eight")


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """A caption, lower case and without punctuation, in a random wording."""

    def one_of(choices: tuple[str, ...]) -> str:
        return choices[rng.choice(len(choices), p=SHARES)]

    parts = [words_of(event, one_of(SUBJECTS), one_of(MOTIONS[event.motion])) for event in scene.events]
    return parts[0] if len(parts) == 1 else one_of(JOINS[scene.relation]).format(*parts)


def plainly(scene: Scene) -> str:
    """The caption in the commonest wording."""
    parts = [words_of(event, SUBJECTS[0], MOTIONS[event.motion][0]) for event in scene.events]
    return parts[0] if len(parts) == 1 else JOINS[scene.relation][0].format(*parts)
