"""Kinds of sounds of the mini audio description data: what a description calls them, and what they are made of.

    kind = KINDS["esc10"]
    paths = kind.files("esc10", seed=0)          # by split and key
    kind.read(paths["train"][3][0])              # waves of RMS 1 from one file

A key is 0 to 9: a telephone key, a spoken digit, or a class of environmental sounds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.audio_description.mini.sounds import RATE, ROW, read_word, speech_files
from datamodules.esc10 import SOUNDS, excerpts, read_sound, sound_files
from datamodules.mini.digits import WORDS

WORD_ROWS = 3  # a spoken digit is cut at this many rows (0.6 s)
SOUND_ROWS = 4  # of an environmental sound this much is heard (0.8 s)

Files = dict[str, dict[int, list[Path]]]  # by split and key


@dataclass(frozen=True)
class Kind:
    """A kind of sounds.

    sentence: a description of two sounds and two digits. names: a name for each key. rows: length of a sound, None:
    data.mini.tone_rows. files, read: (folder, seed) -> recordings, and path -> waves of RMS 1; None: synthesised.
    source: what the folder is.
    """

    sentence: str
    names: tuple[str, ...]
    rows: int | None = None
    files: Callable[[str, int], Files] | None = None
    read: Callable[[Path], list[np.ndarray]] | None = None
    source: str = ""


def _sounds(folder: str, seed: int) -> Files:
    return {
        split: {key: by_class[name] for key, name in enumerate(SOUNDS)}
        for split, by_class in sound_files(folder, seed).items()
    }


KINDS = {
    "tones": Kind("Key {0} sounds as {1} shows, then {2} as {3} shows.", tuple(WORDS)),
    "speech": Kind(
        "A voice says {0} as {1} shows, then {2} as {3} shows.",
        tuple(WORDS),
        WORD_ROWS,
        lambda folder, seed: speech_files(folder),
        lambda path: [read_word(path, WORD_ROWS * ROW / RATE)],
        "the folder 'recordings' of a checkout of the Free Spoken Digit Dataset (docs/datasets.md#speech)",
    ),
    "esc10": Kind(
        "Sound of {0} as {1} shows, then {2} as {3} shows.",
        tuple(SOUNDS.values()),
        SOUND_ROWS,
        _sounds,
        lambda path: excerpts(read_sound(path, RATE), SOUND_ROWS * ROW),
        "a folder of ESC-10, with a folder for each class (docs/datasets.md#environmental-sounds)",
    ),
}
