"""Queries of the mini moments: sentences in many wordings, and features of their words.

    tokens = ask(7, "left", rng)                     # ["when", "somebody", "shows", "seven", "while", ...]
    Words(48, seed=0).features(tokens, 0.3, rng)     # (tokens + 2, 48): a start and an end token around them

A word has one fixed random vector, as a frozen text encoder's embedding has; on top come the token's place and noise,
as its context would shift it.
"""

import zlib

import numpy as np

from datamodules.mini.digits import WORDS

START, END = "<start>", "<end>"
DIGIT = (
    "a {} is on the screen",
    "the digit {} appears",
    "when somebody shows {}",
    "{} can be seen",
    "someone wrote the number {} here",
    "show me every {}",
    "a handwritten {} fills the picture",
    "{}",
)
JOIN = ("while", "as", "and")
MOTION = {
    "left": ("the stripes drift left", "the lines go to the left", "everything behind it moves left"),
    "right": ("the stripes drift right", "the lines go to the right", "everything behind it moves right"),
    "flicker": ("the stripes flicker", "the lines blink on and off", "everything behind it flickers"),
    "still": ("the stripes stand still", "the lines do not move", "everything behind it rests"),
}
PLACE = 0.3  # standard deviation of what a token's place adds


def ask(digit: int, motion: str | None, rng: np.random.Generator) -> list[str]:
    """The words of a query for a digit, over stripes of a motion or (None) whatever they do."""
    name = WORDS[digit] if rng.random() < 0.7 else str(digit)
    sentence = rng.choice(DIGIT).format(name)
    if motion is not None:
        sentence += f" {rng.choice(JOIN)} {rng.choice(MOTION[motion])}"
    return sentence.split()


class Words:
    """One vector per word, which depends on the seed and the word alone."""

    def __init__(self, width: int, seed: int):
        self.width, self.seed = width, seed
        self.known: dict[str, np.ndarray] = {}

    def vector(self, word: str) -> np.ndarray:
        """(width,) float32, deviation 1."""
        if word not in self.known:
            rng = np.random.default_rng([self.seed, 0x3D, zlib.crc32(word.encode())])
            self.known[word] = rng.standard_normal(self.width, dtype=np.float32)
        return self.known[word]

    def features(self, tokens: list[str], noise: float, rng: np.random.Generator) -> np.ndarray:
        """(len(tokens) + 2, width) float32."""
        words = [START, *tokens, END]
        values = np.stack([self.vector(word) for word in words])
        values += PLACE * np.stack([self.vector(f"<{i}>") for i in range(len(words))])
        return values + noise * rng.standard_normal(values.shape, dtype=np.float32)
