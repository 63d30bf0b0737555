"""The ceiling of the mini audio description data: classical classifiers that are told where to look.

Pictures: a support vector machine trained on the clean training images reads the mean of the rows of the right shot.
Sounds: a support vector machine trained on training cues reads the rows of the right sound.
"""

from dataclasses import dataclass

import numpy as np

MAX_CUES = 4000  # training cues shown to the reader of sounds


@dataclass(frozen=True)
class Cue:
    """One event: the sound of `key` starts at row `onset` while `digit` is shown in rows shot[0]..shot[1]-1."""

    onset: int
    key: int
    digit: int
    shot: tuple[int, int]


def _cues(movies) -> list[tuple]:
    """(movie, cue) in the order movie, segment, first and second cue."""
    return [(movie, cue) for movie in movies for pair in movie.cues for cue in pair]


def _sounds(cues, rows: int) -> np.ndarray:
    """Feature rows of every cue's sound, (cues, rows * width) float32."""
    return np.stack([movie.audio[cue.onset : cue.onset + rows].astype(np.float32).ravel() for movie, cue in cues])


def read_cues(train, test, images, rows: int) -> dict[tuple[str, int], list[tuple[int, int]]]:
    """(movie name, segment) of the test movies -> [(key, digit), (key, digit)] as the classifiers read them.

    train, test: lists of Movie; images: clean training pixels (N, 8, 8) and labels; rows: length of a sound.
    """
    # imported here: it takes a second, and a data set that exists does not need it
    from sklearn.dummy import DummyClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    pixels, labels = images
    picture_reader = SVC(gamma="scale", C=10).fit(pixels.reshape(len(pixels), -1), labels)
    shown = _cues(train)
    shown = shown[:: 1 + len(shown) // MAX_CUES]
    heard = [cue.key for _, cue in shown]
    # a support vector machine needs two classes; a handful of cues may all be of one key
    reader = SVC(gamma="scale", C=10) if len(set(heard)) > 1 else DummyClassifier()
    sound_reader = make_pipeline(StandardScaler(), reader).fit(_sounds(shown, rows), heard)

    asked = _cues(test)
    shots = np.stack([movie.video[slice(*cue.shot)].astype(np.float32).mean(0) for movie, cue in asked])
    digits = picture_reader.predict(shots).reshape(-1, 2)
    keys = sound_reader.predict(_sounds(asked, rows)).reshape(-1, 2)
    where = [(movie.name, segment) for movie in test for segment in range(len(movie.cues))]
    return {
        place: [(int(k), int(d)) for k, d in zip(key, digit, strict=True)]
        for place, key, digit in zip(where, keys, digits, strict=True)
    }
