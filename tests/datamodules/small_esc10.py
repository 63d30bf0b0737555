"""A folder in ESC-10's layout with short tones in place of the sounds: each class has a frequency of its own."""

from pathlib import Path

import numpy as np
from scipy.io import wavfile

from datamodules.esc10 import SOUNDS

RATE, SECONDS, SOUNDING = 16000, 2.0, 1.0  # the rest is silence, as in ESC-10


def write_esc10(folder: Path, recordings: int = 5) -> Path:
    """A clip per recording, and a second take of every recording 0. No two clips are equal."""
    time = np.arange(int(SECONDS * RATE)) / RATE
    for number, name in enumerate(SOUNDS):
        (folder / name).mkdir(parents=True)
        for recording in range(recordings):
            for take in "AB" if recording == 0 else "A":
                wave = np.sin(2 * np.pi * (300 + 300 * number + recording) * time + ord(take)) * (time < SOUNDING)
                path = folder / name / f"{1 + recording % 5}-{1000 * number + recording}-{take}.wav"
                wavfile.write(path, RATE, (20000 * wave).astype(np.int16))
    return folder
