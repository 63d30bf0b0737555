"""The generated text: stories of grammar.py in one text file, as a user's own would be.

    folder = write_mini(root, settings, seed=0)     # folder/text.txt, folder/oracle.npy

`oracle.npy` has the nats of every character given all before it: what a reader that knows the grammar would need.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from datamodules.errors import DataError
from datamodules.language_model.mini.grammar import PEOPLE, Teller
from datamodules.mini.store import build_once

FORMAT = 1  # raise whenever the same settings would give another text
NAME = "text-mini"
TEXT, ORACLE, META = "text.txt", "oracle.npy", "meta.json"
LEAST = 100  # characters


@dataclass(frozen=True)
class MiniSettings:
    """characters: length of the whole text. facts: the most facts in a story, 1 to 12."""

    characters: int
    facts: int

    def check(self) -> None:
        """DataError if no text can be made."""
        if self.characters < LEAST:
            raise DataError(f"mini: characters={self.characters} must be at least {LEAST}.")
        if not 1 <= self.facts <= len(PEOPLE):
            raise DataError(f"mini: facts={self.facts} must be in 1..{len(PEOPLE)}.")


def write_mini(root: Path, settings: MiniSettings, *, seed: int) -> Path:
    """The folder with the text, generated unless it is there. The same arguments give the same bytes.

    Raises DataError, before anything is written: settings that no text can have.
    """
    settings.check()
    key = {"format": FORMAT, "seed": seed, "settings": asdict(settings)}
    return build_once(root, NAME, key, lambda folder: _write(folder, settings, seed))


def _write(folder: Path, settings: MiniSettings, seed: int) -> None:
    teller = Teller(np.random.default_rng([seed, 0x7E87]), settings.facts)
    while len(teller.nats) < settings.characters:
        teller.story()
    text = "".join(teller.text)[: settings.characters]
    (folder / TEXT).write_text(text, encoding="utf-8", newline="")
    np.save(folder / ORACLE, np.array(teller.nats[: settings.characters], np.float32))
    meta = {"format": FORMAT, "seed": seed, "settings": asdict(settings)}
    (folder / META).write_text(json.dumps(meta, indent=1) + "\n")
